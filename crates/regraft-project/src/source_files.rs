//! The texts a project is made of, and places in them.

use std::sync::Arc;

/// Names one file of a [`SourceFiles`] set. Only meaningful together with the set it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(crate) u32);

/// A range of bytes in one file: `start` included, `end` excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// The file the range lies in.
    pub file: FileId,
    /// First byte of the range.
    pub start: usize,
    /// First byte after the range.
    pub end: usize,
}

impl Span {
    /// A span over `range` of `file`.
    pub fn new(file: FileId, range: std::ops::Range<usize>) -> Self {
        Span {
            file,
            start: range.start,
            end: range.end,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether the span covers no byte at all (a position between two characters).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A value together with the place it was written at.
///
/// Two `Spanned` are equal when their values are, wherever they were written.
#[derive(Debug, Clone, Copy)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Ties `value` to `span`.
    pub fn new(value: T, span: Span) -> Self {
        Spanned { value, span }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// One file of a project: its path relative to the project's folder, and its text.
#[derive(Debug)]
struct SourceFile {
    path: String,
    text: String,
}

/// All files read for a project. Cheap to clone; problems carry a copy so that they can show
/// the lines they are about.
#[derive(Debug, Clone, Default)]
pub struct SourceFiles {
    root: Arc<str>,
    files: Vec<Arc<SourceFile>>,
}

/// A place as people count it: line and column start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line number, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
}

impl SourceFiles {
    /// An empty set. `root` is shown in front of paths (the project's folder, or a label for
    /// projects that are not on disk); it may be empty.
    pub fn new(root: &str) -> Self {
        SourceFiles {
            root: root.into(),
            files: Vec::new(),
        }
    }

    /// Adds a file and returns its id. `path` is relative to the root, with `/` between parts.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Arc::new(SourceFile {
            path: path.into(),
            text: text.into(),
        }));
        id
    }

    /// The label of the project's folder.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The file's path relative to the project's folder; empty for an id of another set.
    pub fn path(&self, file: FileId) -> &str {
        self.get(file).map_or("", |f| &f.path)
    }

    /// The file's path with the root in front: what is shown to people.
    pub fn display_path(&self, file: FileId) -> String {
        let path = self.path(file);
        if self.root.is_empty() || &*self.root == "." {
            path.to_owned()
        } else {
            format!("{}/{path}", self.root.trim_end_matches('/'))
        }
    }

    /// The file's text; empty for an id of another set.
    pub fn text(&self, file: FileId) -> &str {
        self.get(file).map_or("", |f| &f.text)
    }

    /// The id of the file with this relative path.
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.ids().find(|id| self.path(*id) == path)
    }

    /// Ids of all files, in the order they were added.
    pub fn ids(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..u32::try_from(self.files.len()).unwrap_or(u32::MAX)).map(FileId)
    }

    /// Line and column of the span's first character.
    pub fn position(&self, span: Span) -> Position {
        let text = self.text(span.file);
        let before = &text[..floor_boundary(text, span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The text a span covers, cut to what the file really holds.
    pub fn slice(&self, span: Span) -> &str {
        let text = self.text(span.file);
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        &text[start..end]
    }

    fn get(&self, file: FileId) -> Option<&SourceFile> {
        self.files.get(file.0 as usize).map(|f| &**f)
    }
}

/// The nearest character boundary at or before `at`, so that a stale offset can't panic.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
