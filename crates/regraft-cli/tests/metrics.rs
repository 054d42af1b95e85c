//! What the service tells those who watch it: metrics for Prometheus, in step with what the reference
//! documents, and the figures kept with each run of a job.

mod town;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use prometheus_parse::{Sample, Scrape, Value as Number};
use regraft_testkit::{Program, Rehearsal, Running};
use serde_json::Value;
use town::{DATA, in_step, program, town};

const SIGTERM: i32 = 15;

/// What an address answers: the status line, the headers and the body.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a limit");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// The service with metrics at a free port, and where they are.
fn service(program: &Program) -> (Running, String) {
    let mut running = program.start(&["service", "start", "--poll", "1", "--metrics", "0"]);
    let began = Instant::now();
    loop {
        let said = running.said();
        let at = said.split("http://").nth(1);
        if let Some(address) = at.and_then(|rest| rest.split("/metrics").next()) {
            let address = address.to_owned();
            return (running, address);
        }
        assert!(running.is_running(), "it has ended: {said}");
        assert!(began.elapsed() < Duration::from_secs(30), "{said}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn scraped(address: &str) -> Vec<Sample> {
    let (head, body) = get(address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let lines = body.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).expect("the format of Prometheus");
    scrape.samples
}

/// The one figure of a metric with these labels.
#[track_caller]
fn figure(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let matching = |sample: &&Sample| {
        sample.metric == name
            && labels
                .iter()
                .all(|(label, value)| sample.labels.get(label) == Some(*value))
    };
    let found: Vec<&Sample> = samples.iter().filter(matching).collect();
    let [sample] = found.as_slice() else {
        panic!("{name} {labels:?}: {found:?}");
    };
    match &sample.value {
        Number::Counter(figure) | Number::Gauge(figure) | Number::Untyped(figure) => *figure,
        other => panic!("{name}: {other:?}"),
    }
}

fn due_now(rehearsal: &Rehearsal<'_>) {
    rehearsal.modern(
        "update regraft.synchronization_jobs set next_run_at = clock_timestamp() where status = 'scheduled'",
    );
}

/// Waits until as many runs have ended.
fn ended(rehearsal: &Rehearsal<'_>, running: &mut Running, runs: i64) {
    let began = Instant::now();
    let query = "select count(*) from regraft.sync_run_history where status <> 'running'";
    while rehearsal.modern_number(query) < runs {
        assert!(running.is_running(), "it has ended: {}", running.said());
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{}",
            running.said()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Names, kinds and labels as the reference has them.
fn documented() -> BTreeSet<(String, String, BTreeSet<String>)> {
    let page = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/metrics.md"
    );
    let page = fs::read_to_string(page).expect("the reference");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let bare = |text: &str| text.trim_matches('`').to_owned();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty());
        (
            bare(cells[1]),
            cells[2].to_owned(),
            labels.map(bare).collect(),
        )
    };
    rows.map(row).collect()
}

/// The same, as they are served.
fn served(text: &str, samples: &[Sample]) -> BTreeSet<(String, String, BTreeSet<String>)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let of = |line: &str| {
        let (name, kind) = line.split_once(' ').expect("a name and a kind");
        let of_it = samples.iter().filter(|sample| {
            let whole = sample.metric.as_str();
            whole == name || whole.strip_suffix("_count") == Some(name)
        });
        let labels = of_it.flat_map(|sample| sample.labels.keys().cloned());
        (name.to_owned(), kind.to_owned(), labels.collect())
    };
    types.map(of).collect()
}

#[test]
fn what_is_served_is_what_is_documented_and_true() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    for name in ["a", "broken"] {
        let job = ["sync", "create-job", "--name", name, "--schedule", "daily"];
        let policy = ["--entities", "all", "--conflict-resolution", "manual"];
        program.expect(0, &[&job[..], &policy].concat());
    }
    program.expect(0, &["sync", "pause-job", "--name", "broken"]);
    let (mut running, address) = service(&program);
    let before = scraped(&address);
    assert_eq!(figure(&before, "regraft_ledger_up", &[]), 1.0);
    assert_eq!(figure(&before, "regraft_retries_total", &[]), 0.0);
    assert!(!before.iter().any(|s| s.metric == "regraft_job_runs_total"));
    // Ten rows that only the source has changed, one that both have, and one that can't be moved.
    rehearsal.legacy(
        "update house set rent = rent + 1 where id <= 10;
         insert into house select 5000, 1, null, null, 5, 9, null, built, 'House', null, false from house where id = 1",
    );
    rehearsal.modern("update houses set rent = 5 where legacy_id = 1");
    due_now(&rehearsal);
    ended(&rehearsal, &mut running, 1);
    let samples = scraped(&address);
    let of = |name: &str, label: (&str, &str)| figure(&samples, name, &[label]);
    let runs = [("job", "a"), ("outcome", "completed")];
    assert_eq!(figure(&samples, "regraft_job_runs_total", &runs), 1.0);
    assert_eq!(of("regraft_job_rows_written_total", ("job", "a")), 9.0);
    assert_eq!(of("regraft_conflicts_open", ("entity", "houses")), 1.0);
    assert_eq!(of("regraft_quarantine_open", ("entity", "houses")), 1.0);
    assert!(of("regraft_batches_total", ("entity", "houses")) >= 1.0);
    assert!(of("regraft_rows_done_total", ("entity", "houses")) >= 11.0);
    assert_eq!(of("regraft_jobs", ("status", "scheduled")), 1.0);
    assert_eq!(of("regraft_jobs", ("status", "paused")), 1.0);
    assert!(of("regraft_job_last_success_age_seconds", ("job", "a")) < 60.0);
    assert_eq!(figure(&samples, "regraft_runs_unfinished", &[]), 0.0);
    let resident = figure(&samples, "process_resident_memory_bytes", &[]);
    assert!((1e6..1e9).contains(&resident), "{resident}");
    let time = samples
        .iter()
        .find(|s| s.metric == "regraft_job_run_duration_seconds");
    match time.map(|sample| &sample.value) {
        Some(Number::Histogram(ranges)) => {
            assert_eq!(ranges.last().map(|range| range.count), Some(1.0));
        }
        other => panic!("{other:?}"),
    }
    let (_, text) = get(&address, "/metrics");
    assert_eq!(served(&text, &samples), documented());
    // What the ledger keeps with the run, and the analyzer tells.
    let run = &program.json(0, &["sync", "runs", "--name", "a"])[0];
    let kept = &run["performance"];
    for name in [
        "duration_ms",
        "rows_per_second",
        "memory_bytes",
        "peak_memory_bytes",
    ] {
        assert!(
            kept[name].as_f64().is_some_and(|n| n > 0.0),
            "{name}: {run}"
        );
    }
    assert_eq!(kept["queue_depth"], 0, "{run}");
    // A run that fails is told as an error, with what to do.
    rehearsal.legacy("alter table house rename to castle");
    due_now(&rehearsal);
    ended(&rehearsal, &mut running, 2);
    let failed = [("job", "a"), ("outcome", "failed")];
    assert_eq!(
        figure(&scraped(&address), "regraft_job_runs_total", &failed),
        1.0
    );
    let (head, body) = get(&address, "/healthz");
    assert!(
        head.starts_with("HTTP/1.1 200") && body == "ok\n",
        "{head} {body}"
    );
    assert!(get(&address, "/other").0.starts_with("HTTP/1.1 404"));
    running.signal(SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.says("a: ") && ended.says("error"), "{ended}");
}

/// A ledger that is not there costs its own figures, and nothing else.
#[test]
fn a_ledger_that_does_not_answer() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    let (running, address) = service(&program);
    assert_eq!(
        figure(&scraped(&address), "regraft_runs_unfinished", &[]),
        0.0
    );
    rehearsal.modern("alter table regraft.synchronization_jobs rename to hidden");
    let samples = scraped(&address);
    assert_eq!(figure(&samples, "regraft_ledger_up", &[]), 0.0);
    assert!(figure(&samples, "process_resident_memory_bytes", &[]) > 0.0);
    let of_ledger = [
        "regraft_jobs",
        "regraft_jobs_due",
        "regraft_runs_unfinished",
    ];
    assert!(
        !samples
            .iter()
            .any(|s| of_ledger.contains(&s.metric.as_str()))
    );
    assert!(get(&address, "/healthz").0.starts_with("HTTP/1.1 503"));
    rehearsal.modern("alter table regraft.hidden rename to synchronization_jobs");
    assert_eq!(figure(&scraped(&address), "regraft_ledger_up", &[]), 1.0);
    running.signal(SIGTERM);
    assert_eq!(running.wait().code, Some(0));
}

/// An address that can't be listened at is refused before anything is run.
#[test]
fn an_address_that_is_taken() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for address in [address.as_str(), "nonsense"] {
        let refused = program.expect(2, &["service", "start", "--metrics", address]);
        assert!(refused.says("metrics can't be served at"), "{refused}");
        assert!(refused.says("hint: "), "{refused}");
    }
}

/// The trend of a job's runs, in the terminal and as a page.
#[test]
fn the_trend_of_jobs_is_drawn() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    let job = [
        "sync",
        "create-job",
        "--name",
        "<b>a",
        "--schedule",
        "daily",
        "--entities",
        "all",
    ];
    program.expect(0, &job);
    for round in 1..=4 {
        rehearsal.legacy(&format!(
            "update house set rent = rent + 1 where id <= {}",
            round * 20
        ));
        program.expect(0, &["sync", "run-job", "--name", "<b>a"]);
    }
    let look = ["analyzer", "analyze-performance", "--entity", "houses"];
    let text = program.expect(0, &look);
    assert!(text.says("4 runs of jobs"), "{text}");
    for part in ["┤", "█", "peak memory", "waiting jobs", "MiB"] {
        assert!(text.says(part), "{part}: {text}");
    }
    let document: Value = program.json(0, &look);
    let runs = document["job_runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 4);
    let rates: Vec<f64> = runs
        .iter()
        .filter_map(|r| r["rows_per_second"].as_f64())
        .collect();
    assert_eq!(rates.len(), 4, "{document:#}");
    let trend = &document["job_trend"];
    assert_eq!(
        (&trend["command"], &trend["runs_before"]),
        (&"<b>a".into(), &3.into())
    );
    assert_eq!(trend["last"].as_f64(), rates.last().copied());
    let page = town.path().join("trend.html");
    let page_name = page.to_str().expect("a name");
    program.expect(0, &[&look[..], &["--output", page_name]].concat());
    let page = fs::read_to_string(page).expect("the page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    // Four series of four runs, and that of the entity's own.
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 5, "{page}");
    assert_eq!(page.matches("<path class=\"course\"").count(), 5);
    assert!(
        !page.contains("<b>a") && page.contains("&lt;b&gt;a"),
        "a name is no markup"
    );
    for outside in [
        "<script", "src=", "http://", "https://", "@import", "url(http",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
}
