//! `regraft check-record`

use regraft_engine::{Error, Kind, Record, RecordId, RecordState, Result, check_record};

use super::quarantine::known;
use crate::arguments::CheckRecordArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::progress::Step;
use crate::views::record as view;

/// Tells the whole life of one row.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &CheckRecordArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    known(&opened.project, &arguments.entity)?;
    let context = invocation.context(&opened, Needs::Both)?;
    let id = id(arguments)?;
    let step = Step::begin(&invocation.printer, "looking the row up");
    let record = check_record(&context, &arguments.entity, &id, !arguments.no_values).await?;
    drop(step);
    let printer = &invocation.printer;
    let output = arguments.output.as_deref();
    printer.deliver(output, &record, |width| view::render(&record, width))?;
    printer.next_steps(&next_steps(&record));
    Ok(if record.passed {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

fn id(arguments: &CheckRecordArguments) -> Result<RecordId> {
    match (&arguments.legacy_id, arguments.uuid_id) {
        (Some(id), _) => Ok(RecordId::Legacy(id.trim().to_owned())),
        (None, Some(key)) => Ok(RecordId::Key(key)),
        (None, None) => {
            Err(Error::new(Kind::Usage, "which row?").hint("name it with --legacy-id or --uuid-id"))
        }
    }
}

fn next_steps(record: &Record) -> Vec<(String, &'static str)> {
    let entity = &record.entity;
    let Some(id) = &record.legacy_id else {
        return Vec::new();
    };
    match record.state {
        RecordState::Quarantined | RecordState::Blocked => vec![
            (
                format!("regraft quarantine show {entity} {id}"),
                "what can be done about each reason",
            ),
            (
                format!("regraft quarantine retry --entity {entity} --legacy-id {id}"),
                "try it again, when it is mended",
            ),
        ],
        RecordState::NotMigrated => vec![(
            format!("regraft migrate {entity}"),
            "move what the source has gained",
        )],
        RecordState::Migrated | RecordState::GoneFromSource if !record.passed => vec![(
            format!("regraft validate {entity}"),
            "whether other rows are like that, too",
        )],
        _ => Vec::new(),
    }
}
