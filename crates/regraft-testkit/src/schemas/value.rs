//! Columns of every type and rule, with values that are easy to get wrong.

use regraft_pg::quote::{ident, literal};

use super::table::{Pool, ValueColumn};
use super::writing::toml;
use super::{code, document};
use crate::dice::Dice;

/// Types that both databases of every random project have.
pub(super) const TYPES: &str = "
create type mood as enum ('sad', 'so so', 'happy', 'Überglücklich');
create domain positive as integer constraint is_positive check (value >= 0);
create domain short_text as varchar(10);
create type pair as (number integer, word text);
";

pub(super) const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "trailing ",
    " leading",
    "O'Hara",
    "back\\slash",
    "\\N",
    "NULL",
    "null",
    "tab\there",
    "line\nbreak",
    "cr\rlf\n",
    "naïve",
    "nai\u{308}ve",
    "Ünïcödé",
    "日本語",
    "👩‍👩‍👧",
    "\u{202e}rtl",
    "\"quoted\"",
    "comma,semi;",
    "{brace}",
    "%s $1 :x",
    "\u{a0}nbsp",
    "\u{feff}bom",
    "\u{1}",
    "İstanbul",
    "ß",
    "ﬁ",
];

/// One column; `number` makes its names.
pub(super) fn column(number: usize, dice: &mut Dice) -> ValueColumn {
    let makers: &[fn(&mut Maker, &mut Dice)] = &[
        text,
        text,
        varchar,
        padded,
        narrow,
        widened,
        decimal,
        numeric,
        times,
        moment,
        precise,
        plain,
        plain,
        document::document,
        document::parsed,
        document::parsed,
        code::label,
        code::text_label,
        code::coded,
        code::coded,
        domain,
        short,
        checked,
        texts,
        arrays,
        cast,
        constant,
        document::object,
        derived,
        code::labels,
    ];
    let odd = ["c", "Col ", "ü", "order", "select"][usize::try_from(dice.below(5)).unwrap_or(0)];
    let source = if dice.below(3) == 0 {
        format!("{odd}{number}")
    } else {
        format!("c{number}")
    };
    let name = if dice.below(6) == 0 {
        format!("Target {number}")
    } else {
        format!("v{number}")
    };
    let mut maker = Maker {
        c: format!("t.{}", ident(&source)),
        column: ValueColumn {
            name,
            target: String::new(),
            not_null: dice.below(4) == 0,
            check: None,
            rule: String::new(),
            expected: String::new(),
            faults: Vec::new(),
            source: None,
        },
        source,
    };
    let make = makers[usize::try_from(dice.below(makers.len() as u64)).unwrap_or(0)];
    make(&mut maker, dice);
    let mut column = maker.column;
    if column.not_null {
        let fault = (
            format!("not_null:{}", column.name),
            format!("({}) is null", column.expected),
        );
        // What fails otherwise has no value that could be NULL.
        let others: Vec<String> = column
            .faults
            .iter()
            .map(|(_, when)| format!("({when})"))
            .collect();
        let when = if others.is_empty() {
            fault.1
        } else {
            format!(
                "case when {} then false else {} end",
                others.join(" or "),
                fault.1
            )
        };
        column.faults.push((fault.0, when));
    }
    column
}

/// A column in the making.
pub(super) struct Maker {
    /// The source column, and as an expression.
    source: String,
    pub(super) c: String,
    pub(super) column: ValueColumn,
}

impl Maker {
    /// A column of the source, one of the target, and the value as it is.
    pub(super) fn set(&mut self, of: &str, target: &str, good: Vec<String>, bad: Vec<String>) {
        self.column.target = target.to_owned();
        self.column.rule = toml(&self.c);
        self.column.expected = format!("{}::text", self.c);
        self.column.source = Some(Pool {
            name: self.source.clone(),
            of: of.to_owned(),
            good,
            bad,
        });
    }

    pub(super) fn fault(&mut self, code: &str, when: &str) {
        let reason = format!("{code}:{}", self.column.name);
        self.column
            .faults
            .push((reason, when.replace('$', &self.c)));
    }
}

pub(super) fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| literal(value)).collect()
}

pub(super) fn pick<'a, T>(things: &'a [T], dice: &mut Dice) -> &'a T {
    &things[usize::try_from(dice.below(things.len() as u64)).unwrap_or(0)]
}

fn text(maker: &mut Maker, _: &mut Dice) {
    maker.set("text", "text", strings(TEXTS), Vec::new());
}

fn varchar(maker: &mut Maker, dice: &mut Dice) {
    let good = [
        "",
        "short",
        "exactly12chr",
        "日本語日本語日本語日本語",
        "end ",
        "👩👩👩",
    ];
    let of = *pick(&["text", "varchar", "varchar(40)"], dice);
    maker.set(
        of,
        "varchar(12)",
        strings(&good),
        strings(&[
            "thirteen char",
            "exactly12chr ",
            "日本語日本語日本語日本語日",
        ]),
    );
    maker.fault("value_too_long", "char_length($) > 12");
}

fn padded(maker: &mut Maker, dice: &mut Dice) {
    let of = *pick(&["character(6)", "text"], dice);
    maker.set(
        of,
        "character(6)",
        strings(&["", "ab", "abcdef", "é", " x"]),
        Vec::new(),
    );
    maker.column.expected = format!("{}::character(6)::text", maker.c);
}

fn narrow(maker: &mut Maker, _: &mut Dice) {
    let good = ["0", "-1", "2147483647", "-2147483648", "77"];
    let bad = ["2147483648", "-9223372036854775808"];
    maker.set(
        "bigint",
        "integer",
        good.map(str::to_owned).to_vec(),
        bad.map(str::to_owned).to_vec(),
    );
    maker.fault(
        "numeric_out_of_range",
        "$ not between -2147483648 and 2147483647",
    );
}

fn widened(maker: &mut Maker, dice: &mut Dice) {
    let (of, to) = *pick(
        &[
            ("smallint", "integer"),
            ("integer", "bigint"),
            ("integer", "numeric"),
            ("real", "double precision"),
            ("integer", "integer"),
        ],
        dice,
    );
    maker.set(
        of,
        to,
        ["0", "-7", "32767", "12"].map(str::to_owned).to_vec(),
        Vec::new(),
    );
    maker.column.expected = format!("{}::{to}::text", maker.c);
}

fn decimal(maker: &mut Maker, _: &mut Dice) {
    let good = [
        "0",
        "1.5",
        "-3.25",
        "99999999.99",
        "1.500",
        "'NaN'",
        "-0.01",
        "7",
    ];
    let bad = [
        "1.005",
        "-0.001",
        "100000000",
        "123456789012345678901234567890.5",
        "'-Infinity'",
    ];
    maker.set(
        "numeric",
        "numeric(10, 2)",
        good.map(str::to_owned).to_vec(),
        bad.map(str::to_owned).to_vec(),
    );
    maker.column.expected = format!("{}::numeric(10, 2)::text", maker.c);
    maker.fault(
        "numeric_scale",
        "abs($) < 100000000 and scale(trim_scale($)) > 2",
    );
    maker.fault("numeric_out_of_range", "$ <> 'NaN' and abs($) >= 100000000");
}

fn numeric(maker: &mut Maker, dice: &mut Dice) {
    let good = [
        "0",
        "0.00",
        "-1.10",
        "1e-20",
        "123456789012345678901234567890.123456789",
        "'NaN'",
        "'Infinity'",
    ];
    if dice.below(2) == 0 {
        maker.set(
            "numeric",
            "numeric",
            good.map(str::to_owned).to_vec(),
            Vec::new(),
        );
    } else {
        let good = ["0", "0.10", "-99.99", "12.3"];
        maker.set(
            "numeric(8, 2)",
            "numeric(8, 2)",
            good.map(str::to_owned).to_vec(),
            Vec::new(),
        );
    }
}

fn times(maker: &mut Maker, _: &mut Dice) {
    let good = [
        "2024-02-29 23:59:59.999999+00",
        "infinity",
        "-infinity",
        "0044-03-15 12:00:00+00 BC",
        "1970-01-01 00:00:00+00",
        "2021-03-28 01:30:00+01",
    ];
    maker.set("timestamptz", "timestamptz", strings(&good), Vec::new());
}

fn moment(maker: &mut Maker, _: &mut Dice) {
    let good = [
        "2024-02-29 23:59:59.999999",
        "2021-03-28 02:30:00",
        "1999-12-31 00:00:00",
    ];
    maker.set("timestamp", "timestamptz", strings(&good), Vec::new());
    let utc = format!("{} at time zone 'Europe/Berlin'", maker.c);
    maker.column.rule = toml(&utc);
    maker.column.expected = format!("({utc})::text");
}

fn precise(maker: &mut Maker, _: &mut Dice) {
    let good = [
        "2024-02-29 23:59:59.999+00",
        "1960-01-01 00:00:00.001+00",
        "infinity",
    ];
    maker.set(
        "timestamptz",
        "timestamptz(3)",
        strings(&good),
        strings(&[
            "2024-02-29 23:59:59.999999+00",
            "1960-01-01 00:00:00.0001+00",
        ]),
    );
    maker.fault(
        "time_precision",
        "isfinite($) and date_trunc('milliseconds', $) <> $",
    );
}

/// Types that pass as they are.
fn plain(maker: &mut Maker, dice: &mut Dice) {
    let (of, good): (&str, &[&str]) = *pick::<(&str, &[&str])>(
        &[
            ("boolean", &["true", "false"]),
            ("date", &["2024-02-29", "0001-01-01 BC", "infinity"]),
            ("time", &["00:00:00", "23:59:59.999999", "24:00:00"]),
            ("interval", &["1 mon -1 day", "00:00:00.000001", "-3 years"]),
            ("inet", &["10.0.0.1", "10.0.0.0/8", "::1"]),
            (
                "uuid",
                &[
                    "00000000-0000-0000-0000-000000000000",
                    "ffffffff-ffff-4fff-bfff-ffffffffffff",
                ],
            ),
            (
                "double precision",
                &["NaN", "-0", "0", "1e300", "0.1", "Infinity", "5e-324"],
            ),
            ("real", &["NaN", "0.1", "1e30"]),
            ("bytea", &["\\x", "\\x00", "\\xdeadbeef", "\\x27275c5c0a"]),
            ("pair", &["(1,x)", "(,)", "(-1,\"a \"\"b\"\",\")"]),
            ("int4multirange", &["{}", "{[1,2),[4,9)}"]),
            ("timetz", &["00:00:00+00", "12:00:00.5-08:30"]),
            ("json", &["{\"b\":1,  \"a\":1.0}", "null", "[ ]"]),
            ("macaddr", &["08:00:2b:01:02:03"]),
            ("name", &["a name", ""]),
            ("int4range", &["[1,5)", "empty", "(,3)"]),
            ("bit(3)", &["101", "000"]),
            ("point", &["(1,2)", "(0,-0)"]),
        ],
        dice,
    );
    maker.set(of, of, strings(good), Vec::new());
}

fn domain(maker: &mut Maker, _: &mut Dice) {
    maker.set(
        "integer",
        "positive",
        ["0", "5", "70"].map(str::to_owned).to_vec(),
        vec!["-5".to_owned()],
    );
    maker.column.faults.push((
        "check_violation:is_positive".to_owned(),
        format!("{} < 0", maker.c),
    ));
}

fn short(maker: &mut Maker, _: &mut Dice) {
    maker.set(
        "text",
        "short_text",
        strings(&["", "ten chars!", "日本語"]),
        strings(&["eleven char"]),
    );
    maker.fault("value_too_long", "char_length($) > 10");
}

fn checked(maker: &mut Maker, _: &mut Dice) {
    maker.set(
        "integer",
        "integer",
        ["1", "2", "12", "14"].map(str::to_owned).to_vec(),
        vec!["13".to_owned()],
    );
    let digits: String = maker
        .column
        .name
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let name = format!("no_thirteen_{digits}");
    maker.column.check = Some((name.clone(), format!("{} <> 13", ident(&maker.column.name))));
    maker.column.faults.push((
        format!("check_violation:{name}"),
        format!("{} = 13", maker.c),
    ));
}

fn texts(maker: &mut Maker, _: &mut Dice) {
    let good = [
        "{}",
        "{a}",
        "{\"\",NULL,\" \"}",
        "{{a,b},{c,\"d,e\"}}",
        "[0:1]={x,y}",
        "{\"é\\\\\",\"q\\\"\"}",
    ];
    maker.set("text[]", "text[]", strings(&good), Vec::new());
}

fn arrays(maker: &mut Maker, dice: &mut Dice) {
    let (of, good): (&str, &[&str]) = *pick::<(&str, &[&str])>(
        &[
            ("integer[]", &["{}", "{1,2,3}", "{NULL}", "{{1,2},{3,4}}"]),
            ("numeric[]", &["{1.0,1.00}", "{NaN}", "{}"]),
            ("mood[]", &["{sad,\"so so\"}", "{}", "{NULL,happy}"]),
            (
                "timestamptz[]",
                &["{\"2020-01-01 00:00:00+00\"}", "{infinity}"],
            ),
            ("jsonb[]", &["{\"{\\\"a\\\": 1}\"}", "{}"]),
        ],
        dice,
    );
    maker.set(of, of, strings(good), Vec::new());
}

fn cast(maker: &mut Maker, _: &mut Dice) {
    maker.set(
        "text",
        "integer",
        strings(&["1", "-20", "300"]),
        strings(&["abc", "", "1.5"]),
    );
    let cast = format!("{}::integer", maker.c);
    maker.column.rule = toml(&cast);
    maker.column.expected = format!("({cast})::text");
    maker.column.faults.push((
        "source_error".to_owned(),
        format!("{} !~ '^-?[0-9]+$'", maker.c),
    ));
}

fn constant(maker: &mut Maker, dice: &mut Dice) {
    let (of, rule, value) = *pick(
        &[
            ("text", "{ value = \"it's\" }", "'it''s'"),
            ("integer", "{ value = 42 }", "'42'"),
            ("mood", "{ value = \"so so\" }", "'so so'"),
            ("boolean", "{ value = true }", "'true'"),
            ("numeric(10, 2)", "{ value = 1.5 }", "'1.50'"),
        ],
        dice,
    );
    maker.column.target = of.to_owned();
    maker.column.rule = rule.to_owned();
    maker.column.expected = value.to_owned();
}

fn derived(maker: &mut Maker, dice: &mut Dice) {
    let c = maker.c.clone();
    maker.set("text", "text", strings(TEXTS), Vec::new());
    let derived = match dice.below(3) {
        0 => format!("nullif(btrim({c}), '')"),
        1 => format!("upper({c}) || E'-\\n' || char_length({c})"),
        _ => format!("coalesce({c}, 'none')"),
    };
    maker.column.rule = toml(&derived);
    maker.column.expected = derived;
}
