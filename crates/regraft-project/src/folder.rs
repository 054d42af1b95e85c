//! Reading a project's folder from disk.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::entity_reading::FOLDER;
use crate::invariant_reading::FOLDER as INVARIANTS;
use crate::manifest_reading::{MANIFEST, is_inside};
use crate::problem::Problem;
use crate::query::FOLDER as QUERIES;
use crate::source_files::SourceFiles;

/// Reads the manifest, the entities, the invariants, the queries and the SQL files the manifest names. What can't be read is
/// reported; a file that isn't there is not (the check knows where it is named).
pub(crate) fn read_folder(root: &Path) -> Folder<'_> {
    let mut folder = Folder {
        root,
        sources: SourceFiles::new(&root.display().to_string()),
        unread: Vec::new(),
        problems: Vec::new(),
    };
    folder.read_file(MANIFEST);
    folder.read_toml_files(FOLDER, "only files entities/NAME.toml describe entities");
    folder.read_toml_files(
        INVARIANTS,
        "only files invariants/NAME.toml describe invariants",
    );
    folder.read_toml_files(QUERIES, "only files queries/NAME.toml describe queries");
    for path in folder.named_files() {
        folder.read_file(&path);
    }
    folder
}

/// What was read from a folder.
pub(crate) struct Folder<'a> {
    root: &'a Path,
    pub(crate) sources: SourceFiles,
    /// Paths of files that are there, but can't be read.
    pub(crate) unread: Vec<String>,
    /// Why they can't, among other things.
    pub(crate) problems: Vec<Problem>,
}

impl Folder<'_> {
    fn read_file(&mut self, path: &str) {
        match std::fs::read(self.root.join(path)) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => {
                    self.sources.add(path, text);
                }
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let why = format!("it is not UTF-8 text (byte {at})");
                    self.unreadable(path, &why, Some("save the file as UTF-8"));
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.unreadable(path, &error.to_string(), None),
        }
    }

    fn unreadable(&mut self, path: &str, why: &str, hint: Option<&str>) {
        let message = format!("`{path}` can't be read: {why}");
        let problem = Problem::error("project::unreadable-file", message);
        self.unread.push(path.to_owned());
        self.problems.push(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }

    /// Reads `folder/*.toml`; `others` says of other files what they are not.
    fn read_toml_files(&mut self, folder: &str, others: &str) {
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(folder, &error.to_string(), None),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            match entry.map(|entry| entry.file_name().into_string()) {
                Ok(Ok(name)) => {
                    names.insert(name);
                }
                Ok(Err(name)) => {
                    let path = format!("{folder}{}", name.display());
                    self.unreadable(&path, "its name is not UTF-8 text", Some("rename it"));
                }
                Err(error) => self.unreadable(folder, &error.to_string(), None),
            }
        }
        for name in names {
            let path = format!("{folder}{name}");
            // Hidden files are editors' and file systems' own.
            if name.starts_with('.') {
            } else if name.ends_with(".toml") {
                self.read_file(&path);
            } else {
                self.problems.push(
                    Problem::warning("project::ignored-file", format!("`{path}` is ignored"))
                        .hint(others),
                );
            }
        }
    }

    /// Paths of the SQL files the manifest names, as far as the manifest can be understood.
    fn named_files(&self) -> BTreeSet<String> {
        let Some(file) = self.sources.find(MANIFEST) else {
            return BTreeSet::new();
        };
        let (manifest, _) = DeTable::parse_recoverable(self.sources.text(file));
        let mut paths = BTreeSet::new();
        for (table, key) in [
            ("source", "schema"),
            ("source", "generator"),
            ("target", "schema"),
        ] {
            let list = manifest
                .get_ref()
                .get(table)
                .and_then(|table| table.get_ref().get(key));
            let Some(DeValue::Array(items)) = list.map(|list| list.get_ref()) else {
                continue;
            };
            let items = items.iter().filter_map(|item| item.get_ref().as_str());
            paths.extend(items.filter(|path| is_inside(path)).map(str::to_owned));
        }
        paths
    }
}
