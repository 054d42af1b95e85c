//! Makes sure that a server doesn't outlive us, even if we are killed.
//!
//! A small shell script holds the reading end of a pipe to us. When the pipe closes without a word
//! of farewell, we are gone: it ends the server and removes its directories. (Linux could send a
//! signal to the server itself when its parent dies, but it counts the *thread* that started it
//! as the parent, and nobody would remove the files.)

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::account::Account;
use super::marker;
use crate::error::{Error, Result};

/// `$1` is the server's directory, `$2` the one of its socket, `$3` the marker's name.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pid=
while read -r word value; do
  case $word in
    pid) pid=$value ;;
    quit) exit 0 ;;
  esac
done
if [ -n "$pid" ]; then
  kill -QUIT "$pid" 2>/dev/null
  n=0
  while [ $n -lt 50 ] && [ -e "$1/data/postmaster.pid" ]; do
    sleep 0.1
    n=$((n + 1))
  done
  [ -e "$1/data/postmaster.pid" ] && kill -KILL "$pid" 2>/dev/null
fi
for n in 1 2 3 4 5 6 7 8 9 10; do
  [ -e "$1/$3" ] || exit 0
  rm -rf "$1/data" "$2" && rm -rf "$1" && exit 0
  sleep 0.5
done
"#;

/// The running script.
pub(super) struct Watcher {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Watcher {
    /// Starts watching over a directory that bears a marker.
    pub(super) fn start(account: Account, dir: &Path, socket_dir: &Path) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        account.apply(&mut command);
        let mut child = command
            .args(["-c", SCRIPT, "regraft-watcher"])
            .args([dir, socket_dir])
            .arg(marker::FILE)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::io("running /bin/sh", &error))?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Tells which process to end; `None` when the server has stopped.
    pub(super) fn watch(&mut self, pid: Option<u32>) {
        let pid = pid.map(|pid| pid.to_string()).unwrap_or_default();
        self.say(&format!("pid {pid}\n"));
    }

    /// Ends the watch; the server and its directory stay as they are.
    pub(super) fn dismiss(mut self) {
        self.say("quit\n");
    }

    /// A watcher that is gone can't be told anything; the server then outlives us if we are
    /// killed, and nothing else is lost.
    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}

impl Drop for Watcher {
    /// Without [`Watcher::dismiss`], the script does now what it does when we are killed.
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.child.wait();
    }
}
