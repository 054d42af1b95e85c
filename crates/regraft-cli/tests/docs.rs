//! Every command line in README.md and docs/ works as it stands there.
//!
//! The lines run against a demo that is kept: file by file, in the order in which they are read.
//! A line that ends with `# exits N` is expected to end with that code, any other with 0.

mod kept;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use kept::Demo;

const SIGTERM: i32 = 15;

/// A command line of a document.
#[derive(Debug)]
struct Shown {
    /// Where it is: `docs/guides/x.md:12`.
    place: String,
    arguments: Vec<String>,
    code: i32,
}

#[test]
fn the_commands_in_the_documents_work() {
    let shown = documents()
        .iter()
        .flat_map(|path| commands(path))
        .collect::<Vec<_>>();
    assert!(shown.len() > 10, "only {} commands were found", shown.len());
    let demo = Demo::start("docs", "0.02");
    let failed: Vec<String> = shown.iter().filter_map(|line| run(&demo, line)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs a line; what was wrong with it.
fn run(demo: &Demo, line: &Shown) -> Option<String> {
    let arguments: Vec<&str> = line.arguments.iter().map(String::as_str).collect();
    let finished = match arguments[..] {
        // It ends when it is told to.
        ["service", ..] => {
            let running = demo.program.start(&arguments);
            thread::sleep(Duration::from_secs(3));
            running.signal(SIGTERM);
            running.wait()
        }
        _ => demo.program.run(&arguments),
    };
    (finished.code != Some(line.code)).then(|| {
        format!(
            "{}: regraft {}\n{finished}",
            line.place,
            line.arguments.join(" ")
        )
    })
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README.md, then everything under docs/ in the order of the paths.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|end| end == "md") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found.insert(0, repository().join("README.md"));
    found
}

/// The lines of a document that begin with `$ regraft`, in blocks that are shell.
fn commands(path: &Path) -> Vec<Shown> {
    let text = fs::read_to_string(path).unwrap();
    let name = path
        .strip_prefix(repository())
        .unwrap()
        .display()
        .to_string();
    let mut block: Option<&str> = None;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = block.is_none().then_some(language);
        } else if matches!(block, Some("console" | "sh"))
            && let Some(command) = line.trim_start().strip_prefix("$ regraft ")
        {
            found.push(shown(format!("{name}:{}", at + 1), command));
        }
    }
    found
}

fn shown(place: String, command: &str) -> Shown {
    let (command, remark) = command.split_once(" # ").unwrap_or((command, ""));
    let code = remark.trim().strip_prefix("exits ").map_or(0, |rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .unwrap_or_else(|_| panic!("{place}: `# {remark}` names no exit code"))
    });
    let arguments = command.split_whitespace().map(str::to_owned).collect();
    Shown {
        place,
        arguments,
        code,
    }
}
