//! The offline check of SQL: one expression (or one FROM list), and nothing that writes.
//!
//! PostgreSQL is the judge of an expression; it is asked when the plan is made. What is found
//! here is what no server would accept where the SQL is pasted, or what would make the pasted
//! statement mean something else. Anything that merely this parser doesn't know is a warning.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Select, SetExpr, Statement, TableWithJoins, Visit, Visitor};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::document::Value;
use crate::problem::Problem;
use crate::source_files::Span;
use crate::sql::Sql;

/// More tokens than this are left to the server: the parser's tree is as deep as a chain of
/// operators is long, and freeing it must not exhaust a thread's stack.
const MAX_TOKENS: usize = 4000;

const SERVER_DECIDES: &str =
    "PostgreSQL may know more than this check: the source server decides when the plan is made";

/// Reads `value` as one SQL expression. `true` when it is nothing but a source column.
pub(crate) fn expression(value: Value<'_>) -> Option<(Sql, bool)> {
    let sql = value.sql_text()?;
    let checked = Check::new(&sql, Kind::Expression).and_then(|check| check.check_expression());
    let bare_column = checked.unwrap_or_else(|problem| {
        value.reading.report(*problem);
        false
    });
    Some((sql, bare_column))
}

/// Reads `value` as a FROM list.
pub(crate) fn from_list(value: Value<'_>) -> Option<Sql> {
    let sql = value.sql_text()?;
    let checked = Check::new(&sql, Kind::FromList).and_then(|check| check.check_from_list());
    if let Err(problem) = checked {
        value.reading.report(*problem);
    }
    Some(sql)
}

/// A column that an expression uses, and where.
pub(crate) struct Used {
    pub(crate) name: String,
    pub(crate) span: Span,
    /// Whether it is a column; a word that may be one otherwise.
    pub(crate) certain: bool,
}

/// Reads `value` as one SQL expression on the columns of one table, with the columns it uses.
pub(crate) fn figure(value: Value<'_>) -> Option<(Sql, Vec<Used>)> {
    let sql = value.sql_text()?;
    let used = match Check::new(&sql, Kind::Expression) {
        Err(problem) => {
            value.reading.report(*problem);
            Vec::new()
        }
        Ok(check) => check.check_figure().unwrap_or_else(|problem| {
            value.reading.report(*problem);
            check.words()
        }),
    };
    Some((sql, used))
}

/// Checks a whole query. `plain` is `sql` with every placeholder replaced by a name of the same
/// length.
pub(crate) fn query(value: Value<'_>, sql: &Sql, plain: &str) {
    let checked = Check::of(sql, plain, Kind::Query).and_then(|check| check.check_query());
    if let Err(problem) = checked {
        value.reading.report(*problem);
    }
}

/// What a piece of SQL has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Expression,
    FromList,
    Query,
}

/// The check of one piece of SQL. It ends with the first problem.
struct Check<'a> {
    sql: &'a Sql,
    kind: Kind,
    tokens: Vec<TokenWithSpan>,
    lines: Lines,
}

type Outcome<T> = Result<T, Box<Problem>>;

impl<'a> Check<'a> {
    fn new(sql: &'a Sql, kind: Kind) -> Outcome<Self> {
        Self::of(sql, &sql.text, kind)
    }

    /// A check of `text`, in which every character stands where it does in `sql`.
    fn of(sql: &'a Sql, text: &str, kind: Kind) -> Outcome<Self> {
        let lines = Lines::new(text);
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location();
        match tokens {
            Ok(tokens) => Ok(Check {
                sql,
                kind,
                tokens,
                lines,
            }),
            Err(error) => {
                let open_ended = ["Unterminated", "EOF"];
                let problem = if open_ended.iter().any(|words| error.message.contains(words)) {
                    Problem::error(
                        "project::sql",
                        "a quote or a comment in this SQL never ends",
                    )
                } else {
                    unchecked()
                };
                let start = lines.character(error.location);
                Err(Box::new(
                    problem
                        .at(sql.span_at(start, 1))
                        .label(lower_first(&error.message)),
                ))
            }
        }
    }

    /// Whether the expression is nothing but a column.
    fn check_expression(&self) -> Outcome<bool> {
        self.check_tokens()?;
        let tree = self.parse(|parser| parser.parse_expr())?;
        let bare_column = matches!(
            tree,
            Some(Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        );
        tree.map_or(Ok(()), |tree| self.check_reads_only(&tree))?;
        Ok(bare_column)
    }

    fn check_from_list(&self) -> Outcome<()> {
        self.check_tokens()?;
        let tree: Option<Vec<TableWithJoins>> =
            self.parse(|parser| parser.parse_comma_separated(Parser::parse_table_and_joins))?;
        tree.map_or(Ok(()), |tree| self.check_reads_only(&tree))
    }

    fn check_query(&self) -> Outcome<()> {
        self.check_tokens()?;
        let tree = self.parse(|parser| parser.parse_query())?;
        tree.map_or(Ok(()), |tree| self.check_reads_only(&*tree))
    }

    /// The columns that the expression uses.
    fn check_figure(&self) -> Outcome<Vec<Used>> {
        self.check_tokens()?;
        let Some(tree) = self.parse(|parser| parser.parse_expr())? else {
            return Ok(self.words());
        };
        let mut finder = ColumnFinder::default();
        if let ControlFlow::Break(word) = tree.visit(&mut finder) {
            return Err(Box::new(self.not_a_figure(&word)));
        }
        let columns = finder.columns.into_iter();
        Ok(columns
            .map(|(name, at)| {
                let token = self.tokens.iter().find(|token| token.span.start == at);
                let span = token.map_or(self.sql.span, |token| self.span_of(token));
                Used {
                    name,
                    span,
                    certain: true,
                }
            })
            .collect())
    }

    /// Every word of the SQL, for where the parser gives up: whoever asks knows which of them are
    /// columns.
    fn words(&self) -> Vec<Used> {
        let words = self.significant().filter_map(|token| match &token.token {
            Token::Word(word) => Some((token, word)),
            _ => None,
        });
        words
            .map(|(token, word)| Used {
                name: match word.quote_style {
                    None => word.value.to_lowercase(),
                    Some(_) => word.value.clone(),
                },
                span: self.span_of(token),
                certain: false,
            })
            .collect()
    }

    /// The problem of what can't stand in an expression that both databases compute.
    fn not_a_figure(&self, found: &NoFigure) -> Problem {
        let (message, hint, at) = match found {
            NoFigure::Query => (
                "a sub-select in a figure that both databases compute",
                "write a pair of queries instead: `source` and `target`",
                None,
            ),
            NoFigure::Qualified(at) => (
                "a column with a table's name before it",
                "name the column alone: the figure is about one table",
                Some(at),
            ),
        };
        let token = at.and_then(|at| self.tokens.iter().find(|token| token.span.start == *at));
        Problem::error("project::sql", message)
            .at(token.map_or(self.sql.span, |token| self.span_of(token)))
            .label("not here")
            .hint(hint)
    }

    fn significant(&self) -> impl Iterator<Item = &TokenWithSpan> {
        let tokens = self.tokens.iter();
        tokens.filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
    }

    fn span_of(&self, token: &TokenWithSpan) -> Span {
        let start = self.lines.character(token.span.start);
        let end = self.lines.character(token.span.end);
        self.sql.span_at(start, end.saturating_sub(start).max(1))
    }

    /// An error about `token`.
    fn fault(&self, token: &TokenWithSpan, message: &str, label: &str) -> Problem {
        Problem::error("project::sql", message)
            .at(self.span_of(token))
            .label(label)
    }

    /// What the tokens alone tell.
    fn check_tokens(&self) -> Outcome<()> {
        let Some(first) = self.significant().next() else {
            let needed = match self.kind {
                Kind::Expression => "an SQL expression is needed here",
                Kind::FromList => "a FROM list is needed here",
                Kind::Query => "an SQL query is needed here",
            };
            return Err(Box::new(
                Problem::error("project::sql", needed)
                    .at(self.sql.span)
                    .label("there is no SQL in this string"),
            ));
        };
        let is_query = matches!(keyword(first), Keyword::SELECT | Keyword::WITH);
        if is_query != (self.kind == Kind::Query) {
            return Err(Box::new(self.query_instead(first)));
        }
        let mut open = Vec::new();
        for token in self.significant() {
            match token.token {
                Token::LParen | Token::LBracket => open.push(token),
                Token::RParen | Token::RBracket if !closes(open.pop(), token) => {
                    let message = "unbalanced parentheses";
                    return Err(Box::new(self.fault(
                        token,
                        message,
                        "this one closes nothing",
                    )));
                }
                _ => self.check_token(token, open.is_empty())?,
            }
        }
        match open.pop() {
            Some(token) => Err(Box::new(self.fault(
                token,
                "unbalanced parentheses",
                "this one is never closed",
            ))),
            None => self.check_words(),
        }
    }

    /// A whole query where a part of one belongs. In parentheses, as expressions are pasted, it
    /// would even work, and mean something else.
    fn query_instead(&self, first: &TokenWithSpan) -> Problem {
        let label = "a query begins here";
        match self.kind {
            Kind::Expression => self
                .fault(first, "a query where an SQL expression is needed", label)
                .hint("put a sub-select in parentheses: \"(select ...)\""),
            Kind::FromList => self
                .fault(first, "a query where a FROM list is needed", label)
                .hint("put it in parentheses and name it: \"(select ...) as q\""),
            Kind::Query => self
                .fault(first, "an SQL query is needed here", "no query begins here")
                .hint("a query begins with `select` or `with`"),
        }
    }

    /// Tokens that have no place in the SQL, whatever is around them.
    fn check_token(&self, token: &TokenWithSpan, outermost: bool) -> Outcome<()> {
        Err(Box::new(match &token.token {
            Token::SemiColon => self
                .fault(
                    token,
                    "more than one SQL statement",
                    "a statement ends here",
                )
                .hint("remove the `;`: this is pasted into a larger statement"),
            Token::Comma if outermost && self.kind == Kind::Expression => self
                .fault(
                    token,
                    "more than one SQL expression",
                    "a second one begins here",
                )
                .hint("one expression makes one value; use `||` or a function to join values"),
            Token::Placeholder(name) => self
                .fault(token, &format!("`{name}` has no value here"), "a parameter")
                .hint("write the constant itself"),
            _ => return Ok(()),
        }))
    }

    /// Finds data-modifying statements without parsing. Only pairs of words are looked for,
    /// since a column may well be named `delete`.
    fn check_words(&self) -> Outcome<()> {
        let mut words = self.significant().peekable();
        while let Some(token) = words.next() {
            let next = words
                .peek()
                .map_or(Keyword::NoKeyword, |next| keyword(next));
            if matches!(
                (keyword(token), next),
                (Keyword::INSERT | Keyword::MERGE, Keyword::INTO)
                    | (Keyword::DELETE, Keyword::FROM)
            ) {
                return Err(Box::new(self.writes(&[keyword(token)])));
            }
        }
        Ok(())
    }

    /// `None` when the SQL is too long to be parsed here.
    fn parse<T>(
        &self,
        parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
    ) -> Outcome<Option<T>> {
        if self.tokens.len() > MAX_TOKENS {
            return Ok(None);
        }
        let dialect = PostgreSqlDialect {};
        let mut parser = Parser::new(&dialect).with_tokens_with_locations(self.tokens.clone());
        let tree = parse(&mut parser).map_err(|error| Box::new(self.parser_complaint(&error)))?;
        let rest = parser.peek_token();
        if rest.token == Token::EOF {
            return Ok(Some(tree));
        }
        Err(Box::new(self.trailing(&rest).at(self.span_of(&rest))))
    }

    /// The parser's complaint as a warning at the place it names.
    fn parser_complaint(&self, error: &ParserError) -> Problem {
        let text = match error {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
            ParserError::RecursionLimitExceeded => {
                return unchecked().at(self.sql.span).label("nested too deep");
            }
        };
        let Some((text, location)) = split_location(text) else {
            let end = self.sql.text.trim_end().chars().count();
            return unchecked()
                .at(self.sql.span_at(end, 0))
                .label(lower_first(text));
        };
        let token = self
            .tokens
            .iter()
            .find(|token| token.span.start == location);
        let span = token.map_or_else(
            || self.sql.span_at(self.lines.character(location), 1),
            |token| self.span_of(token),
        );
        unchecked().at(span).label(lower_first(text))
    }

    /// What to say of a token behind a complete expression or FROM list.
    fn trailing(&self, rest: &TokenWithSpan) -> Problem {
        use Keyword::{
            AS, EXCEPT, FETCH, FROM, GROUP, HAVING, INTERSECT, INTO, LIMIT, OFFSET, ORDER, UNION,
            WHERE, WINDOW,
        };
        let word = &rest.token;
        match (self.kind, keyword(rest)) {
            (Kind::FromList, WHERE) => self
                .fault(
                    rest,
                    "`from` is only a FROM list",
                    "a condition begins here",
                )
                .hint("drop rows with a named [[source.filter]], so that they are counted"),
            (Kind::Expression, AS) => self
                .fault(rest, "an expression has no name here", "a name begins here")
                .hint("the column is named by its key; remove the `as ...`"),
            (
                _,
                WHERE | FROM | GROUP | HAVING | ORDER | LIMIT | OFFSET | FETCH | UNION | EXCEPT
                | INTERSECT | WINDOW | INTO,
            ) => {
                let label = match self.kind {
                    Kind::Expression => "the expression ends before this",
                    Kind::FromList => "the FROM list ends before this",
                    Kind::Query => "the query ends before this",
                };
                self.fault(rest, &format!("`{word}` does not belong here"), label)
                    .hint("put a sub-select in parentheses: \"(select ...)\"")
            }
            _ => unchecked().label(format!("`{word}` was not expected")),
        }
    }

    /// Looks through the tree for anything but plain reads: sub-selects may do everything a
    /// statement can (`with x as (delete ...)`, `for update`, `into`).
    fn check_reads_only(&self, tree: &impl Visit) -> Outcome<()> {
        match tree.visit(&mut WriteFinder) {
            ControlFlow::Break(words) => Err(Box::new(self.writes(words))),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// The problem of SQL that writes, where one of `words` is first found.
    fn writes(&self, words: &[Keyword]) -> Problem {
        let token = self
            .significant()
            .find(|token| words.contains(&keyword(token)));
        let message = match self.kind {
            Kind::Query => "this SQL would write to the database, or lock rows of it",
            _ => "this SQL would write to the source, or lock it",
        };
        Problem::error("project::sql-writes", message)
            .at(token.map_or(self.sql.span, |token| self.span_of(token)))
            .label("not a plain read")
            .hint(match self.kind {
                Kind::Query => "it only reads: compute what it gives with a plain SELECT",
                _ => "the source is only read; compute the value with a plain SELECT",
            })
    }
}

/// SQL this check doesn't know.
fn unchecked() -> Problem {
    Problem::warning("project::unchecked-sql", "this SQL can't be checked here")
        .hint(SERVER_DECIDES)
}

/// The unquoted keyword a token is.
fn keyword(token: &TokenWithSpan) -> Keyword {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

fn closes(opening: Option<&TokenWithSpan>, closing: &TokenWithSpan) -> bool {
    matches!(
        (opening.map(|token| &token.token), &closing.token),
        (Some(Token::LParen), Token::RParen) | (Some(Token::LBracket), Token::RBracket)
    )
}

/// Takes the parser's " at Line: 1, Column: 5" off its message.
fn split_location(message: &str) -> Option<(&str, Location)> {
    let (text, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some((
        text,
        Location {
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        },
    ))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Breaks off with the words the writing part may begin with.
struct WriteFinder;

impl Visitor for WriteFinder {
    type Break = &'static [Keyword];

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        match &*query.body {
            SetExpr::Insert(_) => ControlFlow::Break(&[Keyword::INSERT]),
            SetExpr::Update(_) => ControlFlow::Break(&[Keyword::UPDATE]),
            SetExpr::Delete(_) => ControlFlow::Break(&[Keyword::DELETE]),
            SetExpr::Merge(_) => ControlFlow::Break(&[Keyword::MERGE]),
            _ if !query.locks.is_empty() => ControlFlow::Break(&[Keyword::UPDATE, Keyword::SHARE]),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if select.into.is_some() {
            return ControlFlow::Break(&[Keyword::INTO]);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<Self::Break> {
        ControlFlow::Break(&[
            Keyword::INSERT,
            Keyword::UPDATE,
            Keyword::DELETE,
            Keyword::MERGE,
        ])
    }
}

/// What can't stand in a figure.
enum NoFigure {
    Query,
    /// Where its name begins.
    Qualified(Location),
}

/// Collects the columns that an expression names.
#[derive(Default)]
struct ColumnFinder {
    columns: Vec<(String, Location)>,
}

impl Visitor for ColumnFinder {
    type Break = NoFigure;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        ControlFlow::Break(NoFigure::Query)
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Self::Break> {
        match expression {
            Expr::Identifier(name) => {
                let text = match name.quote_style {
                    None => name.value.to_lowercase(),
                    Some(_) => name.value.clone(),
                };
                self.columns.push((text, name.span.start));
                ControlFlow::Continue(())
            }
            Expr::CompoundIdentifier(names) => ControlFlow::Break(NoFigure::Qualified(
                names
                    .first()
                    .map_or(Location { line: 1, column: 1 }, |name| name.span.start),
            )),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Turns the parser's lines and columns into characters of the SQL.
struct Lines {
    /// Position of each line's first character.
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let breaks = text.chars().enumerate().filter(|(_, c)| *c == '\n');
        Lines {
            starts: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    fn character(&self, location: Location) -> usize {
        let index = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        let line = self
            .starts
            .get(index(location.line))
            .copied()
            .unwrap_or_default();
        line.saturating_add(index(location.column))
    }
}
