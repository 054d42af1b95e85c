//! What a command works with: the project and the databases that the command line and the
//! environment name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use regraft_engine::{Context, Error, Events, Kind, Pace, Result, Settings};
use regraft_pg::settings::Host;
use regraft_pg::{Endpoint, Environment, Side};
use regraft_project::{Project, Selection};
use tokio_util::sync::CancellationToken;

use crate::arguments::EntityNames;
use crate::log::Log;
use crate::printer::Printer;
use crate::progress::{Doing, Progress};
use crate::traces::Traces;
use crate::{bundled, diagnostics, environment};

/// One run of the program.
pub(crate) struct Invocation {
    /// Where output goes.
    pub(crate) printer: Arc<Printer>,
    /// What is written of it.
    pub(crate) log: Arc<Log>,
    /// What is traced of it.
    pub(crate) traces: Arc<Traces>,
    /// Cancelled to stop at the next checkpoint.
    pub(crate) cancel: CancellationToken,
    /// What `--project` says.
    pub(crate) project: Option<PathBuf>,
}

/// The databases a command can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Both.
    Both,
    /// Only the modern one: what was done can be looked at when the legacy one is long gone.
    Target,
}

/// Where a project is.
enum Place {
    Folder(PathBuf),
    Bundled(String),
}

/// A project with its environment.
pub(crate) struct Opened {
    /// The project.
    pub(crate) project: Arc<Project>,
    /// The variables that hold for it.
    pub(crate) environment: Environment,
}

impl Invocation {
    /// Finds and reads the project.
    pub(crate) fn open(&self) -> Result<Opened> {
        let (project, environment) = self.find()?;
        let project = project.map_err(Error::problems)?;
        Ok(Opened {
            project: Arc::new(project),
            environment,
        })
    }

    /// Finds the project and reads it; its problems are a result like any other.
    pub(crate) fn find(
        &self,
    ) -> Result<(
        std::result::Result<Project, regraft_project::Problems>,
        Environment,
    )> {
        let place = self.place()?;
        Ok(match place {
            Place::Folder(folder) => {
                self.printer
                    .detail(format!("project: {}", folder.display()));
                (Project::load(&folder), environment::load(Some(&folder))?)
            }
            Place::Bundled(name) => {
                self.printer.detail(format!("project: {name}, bundled"));
                (load_bundled(&name), environment::load(None)?)
            }
        })
    }

    /// The context of an opened project, with the databases that its environment names.
    pub(crate) fn context(&self, opened: &Opened, needs: Needs) -> Result<Context> {
        let environment = &opened.environment;
        self.log.open(environment);
        self.traces.open(environment);
        let source = Endpoint::from_environment(Side::Source, environment);
        let target = Endpoint::from_environment(Side::Target, environment);
        let (source, target) = match (source, target) {
            (Ok(source), Ok(target)) => (source, target),
            (Err(_), Ok(target)) if needs == Needs::Target => {
                (not_configured(Side::Source), target)
            }
            (Err(source), Err(target)) if needs == Needs::Both => {
                return Err(neither(&source, &target));
            }
            (Err(error), Ok(_)) | (_, Err(error)) => return Err(error.into()),
        };
        for endpoint in [&source, &target] {
            self.printer.detail(endpoint.describe());
        }
        Ok(Context {
            project: opened.project.clone(),
            source,
            target,
            settings: Settings::from_environment(&opened.project, environment)?,
            cancel: self.cancel.clone(),
            events: self.events(Doing::Moving),
            pace: Pace::default(),
        })
    }

    /// A sink that shows events as progress.
    pub(crate) fn events(&self, doing: Doing) -> Events {
        self.told(Progress::start(self.printer.clone(), doing))
    }

    /// A sink that logs and traces events, and hands them on to those who show them.
    pub(crate) fn told(&self, shown: Events) -> Events {
        let (log, traces) = (self.log.clone(), self.traces.clone());
        Events::new(move |event| {
            log.event(&event);
            traces.event(&event);
            shown.send(event);
        })
    }

    fn place(&self) -> Result<Place> {
        if let Some(given) = &self.project {
            return named_place(given, "--project");
        }
        let environment = environment::load(None)?;
        if let Some(given) = environment.get("REGRAFT_PROJECT") {
            return named_place(
                Path::new(given.trim()),
                &environment.origin("REGRAFT_PROJECT"),
            );
        }
        let here = Path::new(".");
        if is_project(here) {
            return Ok(Place::Folder(here.to_owned()));
        }
        Err(Error::new(
            Kind::Usage,
            "there is no regraft.toml in the current directory",
        )
        .hint(format!(
            "go to a project's folder, or name one with --project DIR\n{}",
            bundled_hint()
        )))
    }
}

/// The entities a command is about, in order.
pub(crate) fn select(project: &Project, names: &EntityNames, with_deps: bool) -> Result<Selection> {
    let mut names = names.list();
    if names.is_empty() {
        names.push("all".to_owned());
    }
    project
        .select(&names, with_deps)
        .map_err(|error| diagnostics::unknown_name(&error))
}

/// The names of the selected entities, in order.
pub(crate) fn selected_names(selection: &Selection) -> Vec<&str> {
    selection
        .entities()
        .iter()
        .map(|step| step.entity.as_str())
        .collect()
}

/// Reads a bundled project.
pub(crate) fn load_bundled(name: &str) -> std::result::Result<Project, regraft_project::Problems> {
    Project::from_files(name, bundled::files(name))
}

fn named_place(given: &Path, origin: &str) -> Result<Place> {
    if is_project(given) {
        return Ok(Place::Folder(given.to_owned()));
    }
    if let Some(name) = given
        .to_str()
        .filter(|name| bundled::names().iter().any(|b| b == name))
    {
        return Ok(Place::Bundled(name.to_owned()));
    }
    let what = if given.is_dir() {
        format!("{origin}: there is no regraft.toml in {}", given.display())
    } else {
        format!("{origin}: there is no folder {}", given.display())
    };
    Err(Error::new(Kind::Usage, what).hint(bundled_hint()))
}

fn bundled_hint() -> String {
    let names = bundled::names();
    format!(
        "bundled with regraft: {} (as in `--project {}`)",
        names.join(", "),
        bundled::DEMO
    )
}

fn is_project(folder: &Path) -> bool {
    folder.join("regraft.toml").is_file()
}

/// One error for two databases that are not configured.
fn neither(source: &regraft_pg::Error, target: &regraft_pg::Error) -> Error {
    let error = Error::new(
        Kind::Usage,
        format!("{}; {}", source.message(), target.message()),
    );
    match source.hint().or_else(|| target.hint()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Stands for a database that is not configured, in commands that don't connect to it.
pub(crate) fn not_configured(side: Side) -> Endpoint {
    Endpoint::new(
        side,
        Host::Unix("/nonexistent".into()),
        5432,
        "nobody",
        "not configured",
    )
}
