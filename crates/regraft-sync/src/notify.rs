//! Telling somebody of jobs: when a run fails, when rows are to be decided on, when it works again.
//!
//! A notice says what `regraft sync runs` says of the run, and so no value of a row. It is delivered
//! beside the work: what can't be delivered is told, and stops nothing.

use std::process::Stdio;
use std::time::Duration;

use hmac::{Hmac, Mac};
use regraft_engine::{Context, Event};
use regraft_ledger::SyncRun;
use serde::Serialize;
use sha2::Sha256;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long one delivery may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Waits before a delivery is tried again.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// How long notices may still be on their way when the service ends.
const LAST: Duration = Duration::from_secs(15);

/// Where notices go.
#[derive(Debug, Clone, Default)]
pub struct NotifyOptions {
    /// A URL that takes them by POST, as JSON.
    pub url: Option<String>,
    /// What they are signed with: HMAC-SHA256 of the body, in hexadecimal digits, in the header
    /// `X-Regraft-Signature`, after `sha256=`.
    pub secret: Option<String>,
    /// A shell command that gets them on its standard input.
    pub command: Option<String>,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The run has failed.
    Failed,
    /// The run has completed, and rows are to be decided on.
    Conflicts,
    /// The run has completed, and the one before it had failed.
    Recovered,
}

/// A notice as it is sent.
#[derive(Debug, Serialize)]
struct Notice<'a> {
    occasion: Occasion,
    run: &'a SyncRun,
}

/// What there is to tell of the last of these runs of a job, which are ordered latest first.
pub fn occasions(runs: &[SyncRun]) -> Vec<Occasion> {
    let mut ended = runs.iter().filter(|run| run.status != "running");
    let (Some(last), before) = (ended.next(), ended.next()) else {
        return Vec::new();
    };
    let mut occasions = Vec::new();
    let failed = |run: &SyncRun| run.status == "failed";
    if failed(last) {
        occasions.push(Occasion::Failed);
    }
    if last.status == "completed" {
        if before.is_some_and(failed) {
            occasions.push(Occasion::Recovered);
        }
        if last.conflicts > 0 && before.is_none_or(|before| before.conflicts != last.conflicts) {
            occasions.push(Occasion::Conflicts);
        }
    }
    occasions
}

/// Delivers notices.
pub(crate) struct Notifier<'a> {
    context: &'a Context,
    options: &'a NotifyOptions,
    under_way: JoinSet<()>,
}

impl<'a> Notifier<'a> {
    pub(crate) fn new(context: &'a Context, options: &'a NotifyOptions) -> Self {
        Self {
            context,
            options,
            under_way: JoinSet::new(),
        }
    }

    /// Sends what there is to tell of the last of a job's runs, and doesn't wait for it.
    pub(crate) fn tell(&mut self, runs: &[SyncRun]) {
        while self.under_way.try_join_next().is_some() {}
        let Some(run) = runs.iter().find(|run| run.status != "running") else {
            return;
        };
        for occasion in occasions(runs) {
            let Ok(body) = serde_json::to_string(&Notice { occasion, run }) else {
                continue;
            };
            for way in self.ways() {
                self.under_way
                    .spawn(deliver(self.context.clone(), way, body.clone()));
            }
        }
    }

    fn ways(&self) -> Vec<Way> {
        let options = self.options;
        let url = options.url.clone().map(|url| Way::Url {
            url,
            secret: options.secret.clone(),
        });
        let command = options.command.clone().map(Way::Command);
        url.into_iter().chain(command).collect()
    }

    /// Waits for what is under way, for a while.
    pub(crate) async fn finish(mut self) {
        let all = async { while self.under_way.join_next().await.is_some() {} };
        let _ = timeout(LAST, all).await;
    }
}

#[derive(Clone)]
enum Way {
    Url { url: String, secret: Option<String> },
    Command(String),
}

async fn deliver(context: Context, way: Way, body: String) {
    let mut waits = AGAIN.iter();
    loop {
        let done = match &way {
            Way::Url { url, secret } => post(url, secret.as_deref(), &body).await,
            Way::Command(command) => run(command, &body).await,
        };
        let Err(why) = done else { return };
        let Some(wait) = waits.next() else {
            let what = match way {
                Way::Url { .. } => "to the webhook",
                Way::Command(_) => "by the command",
            };
            context.events.send(Event::Note(format!(
                "a notice could not be delivered {what}: {why}; the work goes on"
            )));
            return;
        };
        sleep(*wait).await;
    }
}

async fn post(url: &str, secret: Option<&str>, body: &str) -> Result<(), String> {
    let (url, body) = (url.to_owned(), body.to_owned());
    let signature = secret.map(|secret| signature(secret, &body));
    let sent = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder().timeout_global(Some(LIMIT));
        let agent: ureq::Agent = config.build().into();
        let mut request = agent.post(&url).header("Content-Type", "application/json");
        if let Some(signature) = signature {
            request = request.header("X-Regraft-Signature", signature);
        }
        request.send(&body).map(drop)
    });
    match sent.await {
        Ok(Ok(())) => Ok(()),
        // The URL itself may be a secret, and stands in some errors.
        Ok(Err(ureq::Error::StatusCode(code))) => Err(format!("it answers with status {code}")),
        Ok(Err(ureq::Error::Timeout(_))) => Err("it doesn't answer".to_owned()),
        Ok(Err(_)) => Err("it can't be reached".to_owned()),
        Err(_) => Err("it was broken off".to_owned()),
    }
}

/// HMAC-SHA256 (RFC 2104) of a text, as it stands in the header.
pub fn signature(secret: &str, body: &str) -> String {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

async fn run(command: &str, body: &str) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = shell.spawn().map_err(|error| error.to_string())?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A command that doesn't read is none of our business.
            let _ = stdin.write_all(body.as_bytes()).await;
        }
        child.wait().await
    };
    match timeout(LIMIT, work).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("it ends with {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it takes longer than {} s", LIMIT.as_secs())),
    }
}
