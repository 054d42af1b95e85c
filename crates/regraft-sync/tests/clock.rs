//! Jobs by a clock of the test's: a year in seconds, both changes of the clock, a week missed, two
//! services side by side, one that dies.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use regraft_ledger::{NewSyncJob, SyncRunEnd};
use regraft_pg::{Session, SessionOptions, Side};
use regraft_sync::schedule::Schedule;
use regraft_sync::{Taken, take_due};
use regraft_testkit::{Servers, block_on, endpoint_of};

const LEASE: Duration = Duration::from_secs(60);

/// A database of its own with an empty ledger.
async fn ledger(name: &str) -> (String, Session) {
    let server = Servers::shared().modern();
    server.create_database(name, None).expect("a database");
    let url = server.endpoint(Side::Target, name).url();
    let session = connect(&url).await;
    session
        .batch_execute("set synchronous_commit = off")
        .await
        .expect("a setting");
    regraft_ledger::install(&*session).await.expect("a ledger");
    (url, session)
}

async fn connect(url: &str) -> Session {
    let endpoint = endpoint_of(url, Side::Target);
    Session::connect(&endpoint, &SessionOptions::writing("test"))
        .await
        .expect("a connection")
}

async fn create(session: &Session, name: &str, schedule: &str, zone: &str, now: Timestamp) {
    let first = Schedule::parse(schedule, zone)
        .expect("a schedule")
        .next_after(now, now)
        .expect("a time");
    let job = NewSyncJob {
        name,
        schedule,
        timezone: zone,
        entities: &["all".to_owned()],
        conflict_resolution: None,
        deletes: None,
        max_records: 1000,
        time_limit: 60,
    };
    let created = regraft_ledger::create_sync_job(&**session, &job, now, first).await;
    assert!(created.expect("it is created").is_some());
}

async fn end(session: &Session, taken: &Taken, now: Timestamp) -> bool {
    let end = SyncRunEnd {
        status: "completed",
        ..SyncRunEnd::default()
    };
    let lease = (taken.job.job_id, taken.epoch);
    let ended = regraft_ledger::end_sync_run(&**session, lease, &end, now, None).await;
    ended.expect("it is recorded")
}

/// Every due time of the schedules is run exactly once, in order, by the first look after it.
#[test]
fn a_year_of_schedules() {
    block_on(async {
        let (_, session) = ledger("clock_year").await;
        let start: Timestamp = "2026-01-01T00:00:30+01".parse().expect("a time");
        let over: Timestamp = "2027-01-01T00:00:30+01".parse().expect("a time");
        let jobs = [
            ("daily in Berlin", "30 2 * * *", "Europe/Berlin"),
            ("daily in Chatham", "daily", "Pacific/Chatham"),
            ("weekly", "weekly", "America/New_York"),
            ("every 7 hours", "7h", "UTC"),
            ("every 2 days", "2d", "Europe/Berlin"),
        ];
        let mut expected: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
        for (name, schedule, zone) in jobs {
            create(&session, name, schedule, zone, start).await;
            let schedule = Schedule::parse(schedule, zone).expect("a schedule");
            let mut now = start;
            loop {
                now = schedule.next_after(start, now).expect("a time");
                if now >= over {
                    break;
                }
                expected.entry(name).or_default().push(now);
            }
        }
        let mut run: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        loop {
            let next = regraft_ledger::next_sync_job_due(&*session, &[])
                .await
                .expect("it is told");
            let now = next.expect("a job is always due again");
            if now >= over {
                break;
            }
            while let Some(taken) = take_due(&session, now, "one", LEASE, &[])
                .await
                .expect("a look")
            {
                let due = taken.job.next_run_at.expect("it was due");
                assert!(end(&session, &taken, now).await);
                run.entry(taken.job.name).or_default().push(due);
            }
        }
        for (name, times) in &expected {
            assert_eq!(&run[*name], times, "{name}");
        }
        assert_eq!(expected["daily in Berlin"].len(), 365);
        let doubles = "select count(*) from (select job_id, due_at from regraft.sync_run_history
                       group by 1, 2 having count(*) > 1) d";
        let doubles: i64 = session
            .query_one(doubles, &[])
            .await
            .expect("a count")
            .get(0);
        assert_eq!(doubles, 0);
    });
}

/// Times that have passed while nobody was there count as one.
#[test]
fn a_week_that_was_missed() {
    block_on(async {
        let (_, session) = ledger("clock_missed").await;
        let start: Timestamp = "2026-03-01T00:00Z".parse().expect("a time");
        create(&session, "hourly", "hourly", "UTC", start).await;
        let later = start + SignedDuration::from_hours(7 * 24 + 5) + SignedDuration::from_secs(60);
        let taken = take_due(&session, later, "one", LEASE, &[])
            .await
            .expect("a look");
        let taken = taken.expect("it is due");
        assert_eq!(
            taken.job.next_run_at,
            Some(start + SignedDuration::from_hours(1))
        );
        assert!(end(&session, &taken, later).await);
        assert!(
            take_due(&session, later, "one", LEASE, &[])
                .await
                .expect("a look")
                .is_none()
        );
        let next = regraft_ledger::next_sync_job_due(&*session, &[])
            .await
            .expect("it is told");
        assert_eq!(next, Some(start + SignedDuration::from_hours(7 * 24 + 6)));
    });
}

/// What one has taken the other doesn't get; what a dead one had is due again, and it can't end it.
#[test]
fn two_services_and_one_that_dies() {
    block_on(async {
        let (url, one) = ledger("clock_two").await;
        let two = connect(&url).await;
        let start: Timestamp = "2026-03-01T00:00Z".parse().expect("a time");
        for name in ["a", "b"] {
            create(&one, name, "30m", "UTC", start).await;
        }
        let due = start + SignedDuration::from_mins(30);
        let (first, second) = tokio::join!(
            take_due(&one, due, "one", LEASE, &[]),
            take_due(&two, due, "two", LEASE, &[])
        );
        let (first, second) = (first.expect("a look"), second.expect("a look"));
        let (first, second) = (first.expect("a job"), second.expect("another job"));
        assert_ne!(first.job.name, second.job.name);
        assert!(
            take_due(&one, due, "one", LEASE, &[])
                .await
                .expect("a look")
                .is_none()
        );
        assert!(end(&two, &second, due).await);
        // The first is not heard of any more.
        let later = due + SignedDuration::from_secs(61);
        let gone = regraft_ledger::recover_sync_jobs(&*two, later, "gone").await;
        assert_eq!(gone.expect("a look"), std::slice::from_ref(&first.job.name));
        let again = take_due(&two, later, "two", LEASE, &[])
            .await
            .expect("a look");
        let again = again.expect("it is due again");
        assert!(again.job.is_retry && again.job.name == first.job.name);
        // It wakes late: nothing of what it says counts.
        assert!(!end(&one, &first, later).await);
        let prolonged = (first.job.job_id, first.epoch);
        let prolonged = regraft_ledger::prolong_sync_lease(&*one, prolonged, later).await;
        assert_eq!(prolonged.expect("a look"), None);
        assert!(end(&two, &again, later).await);
        let runs = regraft_ledger::sync_runs(&*two, Some(first.job.job_id), 9)
            .await
            .expect("runs");
        let told: Vec<(&str, &str)> = runs
            .iter()
            .map(|run| (run.run_type.as_str(), run.status.as_str()))
            .collect();
        assert_eq!(told, [("retry", "completed"), ("scheduled", "failed")]);
    });
}
