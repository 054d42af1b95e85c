//! Projects that a test writes itself.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// The `regraft.toml` of a small project: its name, what may stay behind (`"50%"`), and one file of
/// SQL for the source's schema, one for its data and one for the target's schema.
pub fn manifest(name: &str, quarantine: &str) -> String {
    format!(
        r#"
version = 1
name = "{name}"
[source]
schema = ["source/schema.sql"]
generator = ["source/data.sql"]
[target]
schema = ["target/schema.sql"]
[limits]
quarantine = "{quarantine}"
"#
    )
}

/// A project's folder, deleted with the value.
#[derive(Debug)]
pub struct ProjectFolder {
    dir: TempDir,
}

impl ProjectFolder {
    /// A project of these files: (path, content). `regraft.toml` is one of them.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let folder = Self { dir };
        for (path, text) in files {
            folder.write(path, text);
        }
        folder
    }

    /// Writes or replaces a file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("the folder can be written to");
        }
        fs::write(path, text).expect("the folder can be written to");
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
