use std::time::Duration;

use proptest::prelude::*;

use super::super::budget::Limit;
use super::super::reading::Lag;
use super::*;

const BUDGET: Budget = Budget {
    load: Limit::At(3.0),
    replication_lag: Limit::At(Duration::from_secs(10)),
    connections: Limit::At(5),
};

fn calm(side: Side) -> Reading {
    Reading {
        side,
        probe: Duration::from_millis(1),
        usual: Duration::from_millis(1),
        lag: None,
        archiving_fails: false,
        files_waiting: 0,
        waiting_for_us: 0,
        free: 50,
    }
}

fn target(change: impl FnOnce(&mut Reading)) -> Vec<Reading> {
    let mut target = calm(Side::Target);
    change(&mut target);
    vec![calm(Side::Source), target]
}

fn slow() -> Vec<Reading> {
    target(|r| r.probe = Duration::from_millis(5))
}

fn quiet() -> Vec<Reading> {
    target(|_| {})
}

/// The codes of the changes that follow from measurements.
fn changes(controller: &mut Controller, readings: &[Vec<Reading>]) -> Vec<(&'static str, bool)> {
    let taken = readings.iter().filter_map(|r| controller.take(r));
    taken.map(|c| (c.reason.code(), c.slower)).collect()
}

#[test]
fn one_slow_probe_is_chance() {
    let mut controller = Controller::new(BUDGET, 8);
    let readings = [slow(), quiet(), slow(), quiet(), slow(), quiet()];
    assert_eq!(changes(&mut controller, &readings), []);
    assert!(controller.rate().is_full());
    // On two servers, once each, it still is.
    let source = {
        let mut readings = quiet();
        readings[0].probe = Duration::from_millis(9);
        readings
    };
    assert_eq!(changes(&mut controller, &[slow(), source]), []);
}

#[test]
fn every_reason_is_named_and_slows_down() {
    type Change = fn(&mut Reading);
    let worse: [(&str, Change); 6] = [
        ("probe", |r| r.probe = Duration::from_millis(4)),
        ("replication_lag", |r| {
            r.lag = Some(Lag {
                time: Duration::from_secs(11),
                bytes: 1,
            });
        }),
        ("archiving", |r| r.archiving_fails = true),
        ("archiving", |r| r.files_waiting = WAITING_FILES + 1),
        ("lock_waits", |r| r.waiting_for_us = 1),
        ("connections", |r| r.free = 4),
    ];
    for (code, change) in worse {
        let mut controller = Controller::new(BUDGET, 8);
        let readings = [target(change), target(change)];
        assert_eq!(changes(&mut controller, &readings), [(code, true)]);
        let rate = controller.rate();
        assert_eq!((rate.workers, rate.percent), (4, 100), "{code}");
        let stops = matches!(code, "archiving" | "connections");
        assert_eq!(rate.stopped, stops, "{code}");
        // It comes back when it is calm again.
        for _ in 0..100 {
            controller.take(&quiet());
        }
        assert!(controller.rate().is_full(), "{code}");
    }
}

#[test]
fn without_limits_nothing_but_locks_and_wal_matters() {
    let mut controller = Controller::new(Budget::default(), 8);
    let all = target(|r| {
        r.probe = Duration::from_secs(9);
        r.free = 0;
        r.lag = Some(Lag {
            time: Duration::from_secs(1_000),
            bytes: 1 << 40,
        });
    });
    assert_eq!(changes(&mut controller, &[all.clone(), all]), []);
}

#[test]
fn it_halves_waits_and_never_ends() {
    let mut controller = Controller::new(BUDGET, 4);
    let mut seen = vec![controller.rate()];
    for _ in 0..40 {
        if let Some(change) = controller.take(&slow()) {
            seen.push(change.rate);
        }
    }
    let steps: Vec<(usize, u32)> = seen.iter().map(|r| (r.workers, r.percent)).collect();
    assert_eq!(
        steps,
        [
            (4, 100),
            (2, 100),
            (1, 100),
            (1, 50),
            (1, 25),
            (1, 13),
            (1, 6)
        ]
    );
}

#[test]
fn near_the_limit_it_stays_as_it_is() {
    let mut controller = Controller::new(BUDGET, 4);
    controller.take(&slow());
    controller.take(&slow());
    let held = controller.rate();
    assert_eq!(held.workers, 2);
    let near = target(|r| r.probe = Duration::from_micros(2_700));
    for _ in 0..50 {
        assert_eq!(controller.take(&near), None);
    }
    assert_eq!(controller.rate(), held);
}

#[test]
fn more_workers_are_free_to_work() {
    let mut controller = Controller::new(BUDGET, 2);
    controller.resize(6);
    assert!(controller.rate().is_full());
    controller.take(&slow());
    controller.take(&slow());
    controller.resize(16);
    assert_eq!(controller.rate().workers, 3);
    controller.resize(2);
    assert_eq!(controller.rate().workers, 2);
}

fn any_readings() -> impl Strategy<Value = Vec<Reading>> {
    (
        0_u64..6_000,
        0_u64..20,
        any::<bool>(),
        0_i64..40,
        0_i64..2,
        0_i64..20,
    )
        .prop_map(|(probe, lag, fails, files, waiting, free)| {
            target(|r| {
                r.probe = Duration::from_micros(probe);
                r.lag = Some(Lag {
                    time: Duration::from_secs(lag),
                    bytes: 0,
                });
                r.archiving_fails = fails && files > 35;
                r.files_waiting = files / 2;
                r.waiting_for_us = waiting;
                r.free = free;
            })
        })
}

proptest! {
    /// Whatever comes: somebody can always work or is stopped for a reason that stops, a change says
    /// why, too much never makes it faster, and calm brings everything back.
    #[test]
    fn whatever_comes(of in 1_usize..20, all in prop::collection::vec(any_readings(), 0..200)) {
        let mut controller = Controller::new(BUDGET, of);
        for readings in all {
            let (before, level) = (controller.rate(), controller.level);
            let change = controller.take(&readings);
            let rate = controller.rate();
            prop_assert!((1..=of).contains(&rate.workers));
            prop_assert!((6..=100).contains(&rate.percent));
            prop_assert!(rate.percent == 100 || rate.workers == 1);
            prop_assert!((LEAST..=of as f64).contains(&controller.level));
            prop_assert_eq!(change.is_some(), rate != before);
            let over = readings.iter().any(|r| !controller.over(r).is_empty());
            if over {
                prop_assert!(controller.level <= level, "too much, and it goes faster");
            } else {
                prop_assert!(controller.level >= level, "all is well, and it goes slower");
            }
            if rate.stopped && !before.stopped {
                prop_assert!(change.is_some_and(|c| c.reason.stops() && c.slower));
            }
        }
        for _ in 0..1_000 {
            let change = controller.take(&quiet());
            prop_assert!(change.is_none_or(|c| !c.slower && c.reason == PaceReason::Calm));
        }
        prop_assert!(controller.rate().is_full());
    }
}
