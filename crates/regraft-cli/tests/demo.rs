//! The demo: from nothing to a receipt and back to nothing.

mod harness;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::regraft;

fn output(folder: &Path, line: &str, code: i32) -> (String, String) {
    let output = regraft(folder, line)
        .timeout(Duration::from_secs(300))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(code),
        "regraft {line}\n{out}\n{err}"
    );
    (out, err)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_kept_demo_can_be_used_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = output(folder.path(), "demo --scale 0.01 --keep --dir kept", 0);
    for expected in [
        "every row is accounted for",
        "all passed",
        "left behind, by reason",
    ] {
        let unwrapped = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains(expected), "{expected}\n{out}");
    }
    for expected in ["legacy database: ", "target schema: ", "next: "] {
        assert!(err.contains(expected), "{expected}\n{err}");
    }
    let kept = folder.path().join("kept");
    let env = fs::read_to_string(kept.join(".env")).unwrap();
    for line in env.lines().filter(|line| line.contains("_DATABASE_URL=")) {
        let url = line.split_once('=').unwrap().1;
        assert!(out.contains(url), "both URLs are printed");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(kept.join(".env"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    // Every other command works against it, where its .env is.
    let (status, _) = output(&kept, "status --format json", 0);
    let before: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(
        before["entities"]
            .as_array()
            .unwrap()
            .iter()
            .any(|e| e["mapped"] != 0)
    );
    let (again, _) = output(&kept, "migrate profiles", 1);
    assert!(again.contains("Nothing to do"), "{again}");
    output(&kept, "rollback --yes", 0);
    output(folder.path(), "demo --scale 0.01 --dir kept", 2);

    // What the user changed is the user's.
    fs::write(kept.join("project/entities/orders.toml"), "# mine").unwrap();
    let (_, err) = output(&kept, "demo --stop", 0);
    assert!(
        err.contains("orders.toml was changed since, and is left"),
        "{err}"
    );
    let left = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["project"]);
    assert_eq!(
        fs::read_to_string(kept.join("project/entities/orders.toml")).unwrap(),
        "# mine"
    );
}

#[test]
fn a_demo_leaves_nothing_behind_and_one_can_run_beside_another() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = "# somebody else's\nSOURCE_DB_HOST=nowhere\nBATCH_SIZE=nonsense\n";
    fs::write(folder.path().join(".env"), theirs).unwrap();
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let folder = folder.path();
            scope.spawn(move || {
                let line = format!("demo --scale 0.01 --dirt 0 --format json --dir {name}");
                let (out, _) = output(folder, &line, 0);
                let document: serde_json::Value = serde_json::from_str(&out).unwrap();
                assert_eq!(document["validation"]["passed"], true);
                assert_eq!(document["kept"], serde_json::Value::Null);
            });
        }
    });
    fs::remove_file(folder.path().join(".env")).unwrap();
    assert!(is_empty(folder.path()));
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_regraft"))
        .args(["demo", "--scale", "1", "--dir", "demo"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // Both servers are there, and the data is being generated.
    while !folder
        .path()
        .join("demo/modern/regraft-server.toml")
        .exists()
    {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(3));
    let interrupted = Command::new("kill")
        .arg("-INT")
        .arg(child.id().to_string())
        .status();
    assert!(interrupted.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert!(is_empty(folder.path()));
}
