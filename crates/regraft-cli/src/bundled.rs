//! The projects that the program carries along.

use std::fs;
use std::io;
use std::path::Path;

use rust_embed::RustEmbed;

/// Everything under `projects/`, path by path.
#[derive(RustEmbed)]
#[folder = "../../projects"]
struct Files;

/// The project the demo shows.
pub(crate) const DEMO: &str = "dispatch";

/// The names of the bundled projects, sorted.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = Files::iter()
        .filter_map(|path| path.strip_suffix("/regraft.toml").map(str::to_owned))
        .filter(|name| !name.contains('/'))
        .collect();
    names.sort();
    names
}

/// The files of a bundled project: relative paths and texts. Empty for a name that isn't bundled.
pub(crate) fn files(name: &str) -> Vec<(String, String)> {
    let prefix = format!("{name}/");
    Files::iter()
        .filter_map(|path| {
            let relative = path.strip_prefix(&prefix)?.to_owned();
            let data = Files::get(&path)?.data;
            Some((relative, String::from_utf8_lossy(&data).into_owned()))
        })
        .collect()
}

/// Writes a bundled project into the folder `to`, which is made.
pub(crate) fn write(name: &str, to: &Path) -> io::Result<()> {
    for (path, text) in files(name) {
        let path = to.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_project_is_carried_along() {
        assert!(names().contains(&DEMO.to_owned()));
        let files = files(DEMO);
        for expected in ["regraft.toml", "entities/orders.toml", "target/schema.sql"] {
            assert!(files.iter().any(|(path, _)| path == expected), "{expected}");
        }
    }
}
