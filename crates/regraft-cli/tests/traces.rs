//! Traces: what a collector gets of a run, and that a collector which hangs, fails or is away holds
//! nothing up. The collector is a small server of this test that decodes what it is sent.

mod town;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use regraft_testkit::{Legacy, Program, Rehearsal, Servers};
use town::{DATA, carry_over, in_step, program, town, validates};

/// How a collector behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Takes,
    Fails,
    Hangs,
}

#[derive(Default)]
struct Received {
    paths: Vec<String>,
    headers: Vec<String>,
    services: Vec<String>,
    spans: Vec<Span>,
}

struct Collector {
    endpoint: String,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let received: Arc<Mutex<Received>> = Arc::default();
        let kept = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || answer(stream, manner, &kept));
            }
        });
        Self { endpoint, received }
    }

    fn received(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().expect("not poisoned")
    }
}

fn answer(stream: TcpStream, manner: Manner, kept: &Mutex<Received>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    loop {
        let (mut line, mut length, mut headers) = (String::new(), 0, Vec::new());
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).expect("a header");
            let header = header.trim().to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
            headers.push(header);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        if manner == Manner::Hangs {
            thread::sleep(Duration::from_secs(60));
        }
        if manner == Manner::Takes {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("spans");
            let mut kept = kept.lock().expect("not poisoned");
            kept.paths.push(path);
            kept.headers.extend(headers);
            for part in request.resource_spans {
                let resource = part.resource.unwrap_or_default();
                let name = resource.attributes.iter().find(|a| a.key == "service.name");
                let name = name.and_then(|a| a.value.clone()?.value);
                if let Some(Value::StringValue(name)) = name {
                    kept.services.push(name);
                }
                kept.spans
                    .extend(part.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        let status = if manner == Manner::Takes {
            "200 OK"
        } else {
            "500 Broken"
        };
        let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if (&stream).write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn traced(rehearsal: &Rehearsal<'_>, endpoint: &str) -> Program {
    program(rehearsal)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .with("OTEL_SERVICE_NAME", "town hall")
        .with("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret words")
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|a| a.key == name)?;
    Some(match found.value.clone()?.value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        other => format!("{other:?}"),
    })
}

/// An attribute that holds a number.
fn number(span: &Span, name: &str) -> i64 {
    let found = attribute(span, name).unwrap_or_else(|| panic!("no {name} in {span:?}"));
    found.parse().expect("a number")
}

/// The spans of a name.
fn of<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn is_error(span: &Span) -> bool {
    let status = span.status.as_ref();
    status.is_some_and(|status| status.code == StatusCode::Error as i32)
}

/// Each span lies within its parent, which is of the kind above it.
fn are_nested(spans: &[Span]) {
    let by_id: HashMap<&[u8], &Span> = spans
        .iter()
        .map(|span| (span.span_id.as_slice(), span))
        .collect();
    for span in spans {
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{span:?}"
        );
        let above = match span.name.as_str() {
            "run" => {
                assert!(span.parent_span_id.is_empty(), "{span:?}");
                continue;
            }
            "entity" => "run",
            _ => "entity",
        };
        let parent = by_id.get(span.parent_span_id.as_slice());
        let parent = parent.unwrap_or_else(|| panic!("no parent: {span:?}"));
        assert_eq!(parent.name, above);
        assert_eq!(parent.trace_id, span.trace_id);
        assert!(parent.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(parent.end_time_unix_nano >= span.end_time_unix_nano);
        if above == "entity" {
            assert_eq!(
                attribute(parent, "regraft.entity"),
                attribute(span, "regraft.entity")
            );
        }
    }
}

const LEGACY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};

#[test]
fn a_run_is_traced_with_its_entities_and_batches() {
    let town = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), town.path(), LEGACY);
    let collector = Collector::start(Manner::Takes);
    let program = traced(&rehearsal, &collector.endpoint);
    program.expect(0, &["migrate"]);
    let receipt = program.json(0, &["receipt"]);
    {
        let received = collector.received();
        assert!(
            received.paths.iter().all(|path| path == "/v1/traces"),
            "{:?}",
            received.paths
        );
        assert!(received.services.iter().all(|name| name == "town hall"));
        assert!(
            received
                .headers
                .iter()
                .any(|header| header == "x-token: secret words")
        );
        let spans = &received.spans;
        are_nested(spans);
        let [run] = of(spans, "run")[..] else {
            panic!("{spans:?}")
        };
        assert_eq!(
            attribute(run, "regraft.run.id").as_deref(),
            receipt["run_id"].as_str()
        );
        assert_eq!(
            attribute(run, "regraft.command").as_deref(),
            Some("migrate")
        );
        assert!(!is_error(run));
        let entities = of(spans, "entity");
        assert_eq!(entities.len(), 3);
        for entity in entities {
            let name = attribute(entity, "regraft.entity").expect("a name");
            let batches = of(spans, "batch");
            let batches = batches
                .iter()
                .filter(|batch| attribute(batch, "regraft.entity").as_deref() == Some(&name));
            let rows: Vec<i64> = batches.map(|batch| number(batch, "regraft.rows")).collect();
            assert_eq!(
                rows.len() as i64,
                number(entity, "regraft.batches"),
                "{name}"
            );
            assert_eq!(
                rows.iter().sum::<i64>(),
                number(entity, "regraft.source_rows"),
                "{name}"
            );
            let account = receipt["entities"].as_array().expect("entities").iter();
            let mut account = account.filter(|account| account["entity"] == name.as_str());
            let account = account.next().expect("its account");
            let written = number(entity, "regraft.rows.written");
            assert_eq!(
                Some(written),
                account["account"]["inserted"].as_i64(),
                "{name}"
            );
        }
    }
    // What carries changes over, and what takes a run back, are traced alike; what only looks is not.
    collector.received().spans.clear();
    program.expect(0, &carry_over(&[]));
    rehearsal
        .legacy("update house set rent = rent + 1 where id <= 30; delete from room where id = 3");
    program.expect(0, &carry_over(&["--conflict-resolution", "source_wins"]));
    let run = program.json(0, &["runs"])[0]["run_id"].clone();
    let run = run.as_str().expect("a run");
    program.expect(0, &["rollback", "--run", run, "--yes"]);
    rehearsal.legacy("update house set rent = 7 where id = 101");
    rehearsal.modern("update houses set rent = 8 where legacy_id = 101");
    program.expect(1, &carry_over(&["--conflict-resolution", "manual"]));
    program.expect(0, &["conflicts", "resolve", "--all", "--take", "source"]);
    program.expect(0, &["status"]);
    let received = collector.received();
    are_nested(&received.spans);
    let commands: Vec<String> = of(&received.spans, "run")
        .iter()
        .filter_map(|run| attribute(run, "regraft.command"))
        .collect();
    assert_eq!(
        commands,
        [
            "differential",
            "differential",
            "rollback",
            "differential",
            "resolve"
        ]
    );
    let rows = |entity: &str| {
        let batches = of(&received.spans, "batch");
        let of_it = batches
            .iter()
            .filter(|batch| attribute(batch, "regraft.entity").as_deref() == Some(entity));
        of_it
            .map(|batch| number(batch, "regraft.rows"))
            .sum::<i64>()
    };
    assert_eq!(
        rows("houses"),
        30 + 30 + 1,
        "the thirty once more after they were taken back"
    );
    assert_eq!(rows("rooms"), 2, "the one that was deleted, and once more");
}

/// The kind of the error stands at the run, the entity and the batch; no value of a row anywhere.
#[test]
fn a_run_that_fails_says_what_kind_of_error_it_was() {
    let town = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), town.path(), LEGACY);
    let collector = Collector::start(Manner::Takes);
    // One batch fails for good, after a retry of another fault.
    rehearsal.modern(
        "create function refuse() returns trigger language plpgsql as
           $$ begin raise exception 'House 333 is haunted' using errcode = '53100'; end $$;
         create trigger refuse before insert on houses for each row
           when (new.legacy_id = 333) execute function refuse();",
    );
    let failed = traced(&rehearsal, &collector.endpoint).run(&["migrate", "--mode", "in-place"]);
    assert_eq!(failed.code, Some(4), "{failed}");
    let received = collector.received();
    let spans = &received.spans;
    are_nested(spans);
    let failing: Vec<&Span> = spans.iter().filter(|span| is_error(span)).collect();
    let mut names: Vec<&str> = failing.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["batch", "entity", "run"]);
    for span in failing {
        assert_eq!(
            attribute(span, "error.type").as_deref(),
            Some("data"),
            "{span:?}"
        );
        assert_eq!(
            span.status.as_ref().map(|s| s.message.as_str()),
            Some("data")
        );
    }
    assert!(!format!("{spans:?}").contains("haunted"));
}

/// A fault that passes is counted at its batch, and is none of the run's.
#[test]
fn a_batch_that_is_tried_again_says_how_often() {
    let town = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), town.path(), LEGACY);
    let collector = Collector::start(Manner::Takes);
    rehearsal.modern(
        "create sequence tries;
         create function stumble() returns trigger language plpgsql as $$ begin
           if nextval('tries') <= 2 then raise exception 'later' using errcode = '40001'; end if;
           return new; end $$;
         create trigger stumble before insert on houses for each row
           when (new.legacy_id = 333) execute function stumble();",
    );
    let program = traced(&rehearsal, &collector.endpoint).with("MAX_RETRY_ATTEMPTS", "3");
    program.expect(0, &["migrate", "--mode", "in-place"]);
    let received = collector.received();
    are_nested(&received.spans);
    assert!(!received.spans.iter().any(is_error));
    let batches = of(&received.spans, "batch");
    let retries: Vec<i64> = batches
        .iter()
        .map(|b| number(b, "regraft.retries"))
        .collect();
    assert_eq!(retries.iter().sum::<i64>(), 2, "{retries:?}");
    assert_eq!(retries.iter().filter(|tries| **tries > 0).count(), 1);
}

/// Tracing is not worth a migration.
#[test]
fn a_collector_that_hangs_fails_or_is_away_holds_nothing_up() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let away = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", away.local_addr().expect("an address"));
    drop(away);
    let plain = timed(&program(&rehearsal), &rehearsal, 0).1;
    let hangs = Collector::start(Manner::Hangs);
    let fails = Collector::start(Manner::Fails);
    for (at, endpoint) in [&hangs.endpoint, &fails.endpoint, &address]
        .into_iter()
        .enumerate()
    {
        let (said, time) = timed(&traced(&rehearsal, endpoint), &rehearsal, at + 1);
        assert!(
            said.contains("traces could not be delivered"),
            "{endpoint}: {said}"
        );
        assert!(
            !said.contains(endpoint.as_str()),
            "no address in a message: {said}"
        );
        assert!(
            time < plain + Duration::from_secs(12),
            "{time:?} against {plain:?}"
        );
    }
    validates(&rehearsal, "after all of that");
    let nonsense = traced(&rehearsal, "not an address").run(&["migrate"]);
    assert!(nonsense.says("there are no traces"), "{nonsense}");
    assert_eq!(nonsense.code, Some(0));
}

/// What a run says and how long it takes.
fn timed(program: &Program, rehearsal: &Rehearsal<'_>, round: usize) -> (String, Duration) {
    rehearsal.legacy(&format!("update house set rent = {round} where id <= 100"));
    let began = Instant::now();
    let done = program.expect(0, &carry_over(&["--conflict-resolution", "source_wins"]));
    (done.to_string(), began.elapsed())
}
