//! `regraft receipt`

use regraft_engine::{Error, Explanation, Kind, Receipt, Result, explain, receipt};
use serde::Serialize;

use crate::arguments::{Format, ReceiptArguments};
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::views;

/// A file has no terminal's width.
const FILE_WIDTH: usize = 100;

/// The JSON document of a receipt.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanations: Option<&'a [Explanation]>,
}

/// Prints the account of a run, or writes it to a file.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &ReceiptArguments,
) -> Result<ExitStatus> {
    let context = invocation.context(&invocation.open()?, Needs::Target)?;
    let receipt = receipt(&context, &arguments.run).await?;
    let printer = &invocation.printer;
    let explanations = arguments.explain.then(|| explain(&receipt));
    let width = match &arguments.output {
        Some(_) => FILE_WIDTH,
        None => printer.width(),
    };
    let text = text(arguments.format, &receipt, explanations.as_deref(), width)?;
    match &arguments.output {
        Some(path) => printer.save(path, &text)?,
        None => printer.data(&text),
    }
    if arguments.format == Format::Human {
        printer.next_steps(&views::receipt::next(&receipt, arguments.explain));
    }
    Ok(ExitStatus::Done)
}

fn text(
    format: Format,
    receipt: &Receipt,
    explanations: Option<&[Explanation]>,
    width: usize,
) -> Result<String> {
    Ok(match format {
        Format::Human | Format::Csv => views::receipt::explained(receipt, explanations, width),
        Format::Markdown => views::receipt::markdown(receipt, explanations),
        Format::Html => views::receipt::html(receipt, explanations),
        Format::Json => {
            let document = Document {
                receipt,
                explanations,
            };
            serde_json::to_string_pretty(&document).map_err(|error| {
                Error::new(
                    Kind::Internal,
                    format!("the receipt can't be written: {error}"),
                )
            })?
        }
    })
}
