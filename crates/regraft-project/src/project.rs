//! A project as a whole: checked, selected from, and fingerprinted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::document::Reading;
use crate::entity::Entity;
use crate::entity_reading::{self, Draft, FOLDER};
use crate::invariant::Invariant;
use crate::invariant_reading::{self, is_invariants_file};
use crate::manifest::Manifest;
use crate::manifest_reading::{self, ALL, MANIFEST};
use crate::name;
use crate::problem::{Problem, Problems};
use crate::query::{self, NamedQuery, is_queries_file};
use crate::references;
use crate::selection::{self, Selection, SelectionError};
use crate::source_files::{FileId, SourceFiles, Span};

/// A checked project.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
    manifest: Manifest,
    entities: Vec<Entity>,
    invariants: Vec<Invariant>,
    queries: Vec<NamedQuery>,
    sources: SourceFiles,
    hash: String,
    file_hashes: BTreeMap<String, String>,
    warnings: Problems,
}

impl Project {
    /// Reads and checks the project in the folder `root`.
    ///
    /// # Errors
    /// Everything that is wrong with it, in all of its files, at once.
    pub fn load(root: &Path) -> Result<Project, Problems> {
        let folder = crate::folder::read_folder(root);
        check(
            root.to_owned(),
            folder.sources,
            &folder.unread,
            folder.problems,
        )
    }

    /// Checks a project given as paths (relative, with `/` between parts) and texts.
    /// `root_label` takes the place of the folder in messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, in all of its files, at once.
    pub fn from_files(
        root_label: &str,
        mut files: Vec<(String, String)>,
    ) -> Result<Project, Problems> {
        // The order problems are shown in: the manifest, the entities, the rest.
        files.sort_by_cached_key(|(path, _)| {
            let is_other = entity_stem(path).is_none();
            let rank = (path != MANIFEST, is_other, !is_invariants_file(path));
            (rank, path.clone())
        });
        let mut sources = SourceFiles::new(root_label);
        let mut problems = Vec::new();
        for (path, text) in files {
            if sources.find(&path).is_some() {
                let message = format!("the file `{path}` was given twice");
                problems.push(Problem::error("project::duplicate-file", message));
            } else {
                sources.add(path, text);
            }
        }
        check(PathBuf::from(root_label), sources, &[], problems)
    }

    /// The project's folder (or the label given instead of one).
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `regraft.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All entities, sorted by name.
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// The entity with this name.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        let found = self
            .entities
            .binary_search_by(|entity| entity.name.as_str().cmp(name));
        found.ok().and_then(|index| self.entities.get(index))
    }

    /// All invariants, in the order of their files and within them.
    pub fn invariants(&self) -> &[Invariant] {
        &self.invariants
    }

    /// The queries that the new database has to answer in time, in the order of their files.
    pub fn queries(&self) -> &[NamedQuery] {
        &self.queries
    }

    /// The project's files.
    pub fn sources(&self) -> &SourceFiles {
        &self.sources
    }

    /// The text of a file of the project, by its relative path: the schema files named in the
    /// manifest, above all.
    pub fn file_text(&self, path: &str) -> Option<&str> {
        self.sources.find(path).map(|file| self.sources.text(file))
    }

    /// What looked odd but didn't make the project unusable.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// SHA-256 (lower-case hexadecimal) over the files that define the migration: manifest,
    /// entities, invariants and target schema, not its queries. It depends on their relative paths and texts only, neither
    /// on the folder nor on the kind of line ends.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// SHA-256 of each of the files that [`Project::hash`] is over, by relative path.
    pub fn file_hashes(&self) -> &BTreeMap<String, String> {
        &self.file_hashes
    }

    /// The entities that `names` stand for, in dependency order. A name is an entity's, a
    /// group's or `all`; several may be given in one string, with commas between. No names at
    /// all mean all entities. With `with_deps` everything the selected entities refer to is
    /// selected, too.
    ///
    /// # Errors
    /// All names that are neither an entity nor a group.
    pub fn select(&self, names: &[String], with_deps: bool) -> Result<Selection, SelectionError> {
        selection::select(self, names, with_deps)
    }

    /// Like [`Project::select`], with every entity that refers to a selected one, at once or by
    /// way of others.
    ///
    /// # Errors
    /// All names that are neither an entity nor a group.
    pub fn select_with_dependents(&self, names: &[String]) -> Result<Selection, SelectionError> {
        selection::select_with_dependents(self, names)
    }

    /// The entities that `entity`'s references and `same_as` name, sorted, each once; `entity`
    /// itself is among them when it refers to itself. Empty for an unknown entity.
    pub fn dependencies(&self, entity: &str) -> Vec<&str> {
        let names: BTreeSet<&str> = self
            .entity(entity)
            .into_iter()
            .flat_map(references::references)
            .collect();
        names.into_iter().collect()
    }
}

/// The entity's name a path stands for, if it is the path of an entity.
pub(crate) fn entity_stem(path: &str) -> Option<&str> {
    let stem = path.strip_prefix(FOLDER)?.strip_suffix(".toml")?;
    (!stem.contains('/')).then_some(stem)
}

/// Checks the files against each other and builds the model. `unread` are the paths of files
/// that could not be read, `found` the problems met while reading.
fn check(
    root: PathBuf,
    sources: SourceFiles,
    unread: &[String],
    found: Vec<Problem>,
) -> Result<Project, Problems> {
    let entity_files: Vec<(FileId, String)> = sources
        .ids()
        .filter_map(|file| Some((file, entity_stem(sources.path(file))?.to_owned())))
        .collect();
    // An entity whose file can't be read exists all the same: references to it are fine.
    let read = entity_files.iter().map(|(_, name)| name.as_str());
    let names = read.chain(unread.iter().filter_map(|path| entity_stem(path)));
    let reading = Reading::new(
        &sources,
        names.map(str::to_owned).collect(),
        unread.to_vec(),
    );

    let manifest = read_manifest(&reading);
    let drafts = read_entities(&reading, &entity_files);
    references::check_same_as(&reading, &drafts);
    let mut invariants = Vec::new();
    for file in sources
        .ids()
        .filter(|file| is_invariants_file(sources.path(*file)))
    {
        let text = sources.text(file);
        invariant_reading::read_invariants(&reading, file, text, &drafts, &mut invariants);
    }
    let mut queries = Vec::new();
    for file in sources
        .ids()
        .filter(|file| is_queries_file(sources.path(*file)))
    {
        query::read_queries(&reading, file, sources.text(file), &mut queries);
    }
    let files = entity_files.iter().map(|(file, _)| *file);
    let defining = defining(&sources, files, manifest.as_ref());
    let hash = hash(&defining);
    let file_hashes = defining
        .into_iter()
        .map(|(path, text)| (path.to_owned(), hex::encode(Sha256::digest(text))))
        .collect();

    let problems = in_file_order(found, reading.into_problems());
    let mut warnings = Problems::new(sources.clone());
    warnings.extend(problems);
    let mut entities: Vec<Entity> = drafts.into_iter().filter_map(Draft::finish).collect();
    entities.sort_by(|a, b| a.name.cmp(&b.name));
    match manifest {
        Some(manifest) if !warnings.has_errors() => Ok(Project {
            root,
            manifest,
            entities,
            invariants,
            queries,
            sources,
            hash,
            file_hashes,
            warnings,
        }),
        _ => Err(warnings),
    }
}

fn read_manifest(reading: &Reading<'_>) -> Option<Manifest> {
    let Some(file) = reading.sources.find(MANIFEST) else {
        if !reading.is_unread(MANIFEST) {
            reading.report(no_manifest(reading.sources));
        }
        return None;
    };
    if reading.entities.is_empty() && !reading.is_unread(FOLDER) {
        reading.report(
            Problem::error("project::no-entities", "the project has no entities")
                .at(Span::new(file, 0..0))
                .hint("describe each in a file of its own: entities/orders.toml"),
        );
    }
    manifest_reading::read_manifest(reading, file, reading.sources.text(file))
}

fn read_entities(reading: &Reading<'_>, files: &[(FileId, String)]) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (file, name) in files {
        check_entity_name(reading, *file, name);
        let text = reading.sources.text(*file);
        drafts.extend(entity_reading::read_entity(reading, name, *file, text));
    }
    drafts
}

fn check_entity_name(reading: &Reading<'_>, file: FileId, name: &str) {
    let start = Span::new(file, 0..0);
    if name == ALL {
        reading.report(
            Problem::error("project::name-clash", "an entity can't be named `all`")
                .at(start)
                .hint("`all` is the built-in group of every entity; rename the file"),
        );
    } else if !name::is_entity_name(name) {
        reading.report(
            Problem::error(
                "project::bad-name",
                format!("`{name}` can't be an entity's name"),
            )
            .at(start)
            .label("the name comes from the file's")
            .hint(match name::as_entity_name(name) {
                Some(better) => format!("rename the file to {FOLDER}{better}.toml"),
                None => "rename the file: lower-case letters, digits and `_`, \
                             beginning with a letter, 63 characters at most"
                    .to_owned(),
            }),
        );
    }
}

fn no_manifest(sources: &SourceFiles) -> Problem {
    let folder = if sources.root().is_empty() {
        "."
    } else {
        sources.root()
    };
    Problem::error(
        "project::no-manifest",
        format!("there is no {MANIFEST} in `{folder}`"),
    )
    .hint("go to the project's folder, or name it with --project FOLDER")
}

/// Problems without a place first, then file by file from top to bottom.
fn in_file_order(mut found: Vec<Problem>, more: Vec<Problem>) -> Vec<Problem> {
    found.extend(more);
    found.sort_by_key(|problem| problem.span.map(|span| (span.file, span.start)));
    found
}

/// The files that define the migration, with their texts.
fn defining<'a>(
    sources: &'a SourceFiles,
    entities: impl Iterator<Item = FileId>,
    manifest: Option<&'a Manifest>,
) -> BTreeMap<&'a str, String> {
    let schema = manifest
        .map(|manifest| manifest.target.schema.as_slice())
        .unwrap_or_default();
    entities
        .map(|file| sources.path(file))
        .chain(
            sources
                .ids()
                .map(|file| sources.path(file))
                .filter(|path| is_invariants_file(path)),
        )
        .chain([MANIFEST])
        .chain(schema.iter().map(String::as_str))
        .map(|path| {
            let text = sources.find(path).map(|file| sources.text(file));
            (path, text.unwrap_or_default().replace("\r\n", "\n"))
        })
        .collect()
}

fn hash(files: &BTreeMap<&str, String>) -> String {
    let mut hasher = Sha256::new();
    for (path, text) in files {
        for part in [*path, text.as_str()] {
            // The length in front keeps two parts from being read as one.
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hex::encode(hasher.finalize())
}
