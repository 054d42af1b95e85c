//! A demo that is kept, for commands that documents show.

use std::fs;
use std::path::PathBuf;

use regraft_testkit::Program;

/// A kept demo. Ended when the value is dropped, also by a failure.
pub(crate) struct Demo {
    folder: PathBuf,
    /// The program in the demo's folder, where its `.env` is.
    pub(crate) program: Program,
}

impl Demo {
    /// Starts a demo of a size at which it takes seconds, everything in it migrated.
    pub(crate) fn start(name: &str, scale: &str) -> Self {
        // Not inside of a private folder: the servers may run as another user.
        let folder = std::env::temp_dir().join(format!("regraft-{name}-{}", std::process::id()));
        let program = Program::new(env!("CARGO_BIN_EXE_regraft"));
        let place = folder.display().to_string();
        program.expect(0, &["demo", "--scale", scale, "--keep", "--dir", &place]);
        let program = program.in_folder(&folder);
        let demo = Self { folder, program };
        demo.allow_any_dirt();
        demo
    }

    /// In data as small as this, the dirt is a greater part than the project puts up with.
    fn allow_any_dirt(&self) {
        let path = self.folder.join("project/regraft.toml");
        let text = fs::read_to_string(&path).unwrap();
        let changed = text.replace("quarantine = \"5%\"", "quarantine = \"100%\"");
        assert_ne!(text, changed, "the demo's project has another budget");
        fs::write(path, changed).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.program.run(&["demo", "--stop"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
