//! Which types can cross from one cluster to the other, and what has to be done to their bytes.
//!
//! The binary form of a type is the same in every cluster, except that arrays and composites carry
//! the OIDs of their parts, which for anything but built-in types belong to one cluster. What
//! would change a value silently (a rounding cast, a time zone) is refused with the cast to write.

use std::collections::HashSet;

use regraft_pg::catalog::Column;
use tokio_postgres::types::{Kind, Type};

/// OIDs below this are built in and the same everywhere (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16_384;

/// How OIDs inside a value are exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recode {
    /// Nothing to exchange.
    Same,
    /// An array: the OID of its elements, and what to do in each.
    Array(u32, Box<Recode>),
    /// A composite: per field its OID and what to do in it.
    Composite(Vec<(u32, Recode)>),
    /// A range: what to do in its bounds.
    Range(Box<Recode>),
}

/// How a source type becomes a target type.
#[derive(Debug, Clone)]
pub(crate) enum Transfer {
    /// By the source's own cast to this type (or none), the bytes then pass.
    Pass(Option<&'static str>),
    /// An integer that must be checked to fit into so many bytes.
    Narrow(usize),
    /// Text that must be one of these labels.
    Labels(HashSet<Vec<u8>>),
    /// OIDs must be exchanged.
    Recode(Recode),
}

/// A limit of the target column that the catalogs tell and that COPY would enforce by failing, or
/// by changing the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    None,
    /// At most so many characters.
    Characters(usize),
    /// At most so many characters, filled up with blanks.
    Padded(usize),
    /// numeric(precision, scale).
    Numeric {
        precision: i32,
        scale: i32,
    },
    /// Microseconds must be a multiple of this.
    TimeStep(i64),
}

/// The type under any number of domains.
pub(crate) fn base(of: &Type) -> &Type {
    match of.kind() {
        Kind::Domain(inner) => base(inner),
        _ => of,
    }
}

/// Whether a type is text of some kind; the binary forms of all of these are the characters.
pub(crate) fn is_text(of: &Type) -> bool {
    matches!(
        *base(of),
        Type::TEXT | Type::VARCHAR | Type::UNKNOWN | Type::NAME
    ) || base(of).name() == "citext"
}

/// The size of an integer type in bytes.
pub(crate) fn integer_width(of: &Type) -> Option<usize> {
    match *base(of) {
        Type::INT2 => Some(2),
        Type::INT4 => Some(4),
        Type::INT8 => Some(8),
        _ => None,
    }
}

/// How values of `source` become values of `target`.
///
/// # Errors
/// What to write instead, as a hint.
pub(crate) fn transfer(source: &Type, target: &Type) -> Result<Transfer, String> {
    let (s, t) = (base(source), base(target));
    if let (Some(from), Some(to)) = (integer_width(s), integer_width(t)) {
        return Ok(match (from, to) {
            _ if from == to => Transfer::Pass(None),
            (_, 4) if from < to => Transfer::Pass(Some("int4")),
            (_, 8) => Transfer::Pass(Some("int8")),
            _ => Transfer::Narrow(to),
        });
    }
    if is_text(s) || *s == Type::BPCHAR {
        // character(n) is padded; as text it is not, and that is what the cast is for.
        let cast =
            (*s == Type::BPCHAR || *s == Type::UNKNOWN || *s == Type::NAME).then_some("text");
        if let Kind::Enum(labels) = t.kind() {
            return match cast {
                Some(_) => Err("cast it to text: `(...)::text`".to_owned()),
                None => Ok(Transfer::Labels(
                    labels.iter().map(|l| l.clone().into_bytes()).collect(),
                )),
            };
        }
        if *s == Type::BPCHAR && *t == Type::BPCHAR {
            return Ok(Transfer::Pass(None));
        }
        if is_text(t) || *t == Type::BPCHAR {
            return Ok(Transfer::Pass(cast));
        }
        if matches!(*t, Type::JSON | Type::JSONB) {
            return Err(format!(
                "text may not be JSON: write {{ parse = \"...\" }}, or cast it: `(...)::{}`",
                t.name()
            ));
        }
    }
    match (s, t) {
        (&Type::INT2 | &Type::INT4 | &Type::INT8, &Type::NUMERIC) => {
            return Ok(Transfer::Pass(Some("numeric")));
        }
        (&Type::INT2 | &Type::INT4, &Type::FLOAT8) | (&Type::FLOAT4, &Type::FLOAT8) => {
            return Ok(Transfer::Pass(Some("float8")));
        }
        (&Type::JSON, &Type::JSONB) => return Ok(Transfer::Pass(Some("jsonb"))),
        (&Type::JSONB, &Type::JSON) => return Ok(Transfer::Pass(Some("json"))),
        _ => {}
    }
    if let (Kind::Enum(have), Kind::Enum(want)) = (s.kind(), t.kind()) {
        // An enum's binary form is its label; labels that only the source has are found per row.
        return Ok(if have.iter().all(|label| want.contains(label)) {
            Transfer::Pass(None)
        } else {
            Transfer::Labels(want.iter().map(|l| l.clone().into_bytes()).collect())
        });
    }
    if matches!(s.kind(), Kind::Enum(_)) && is_text(t) {
        return Ok(Transfer::Pass(Some("text")));
    }
    match recode(s, t) {
        Some(Recode::Same) => Ok(Transfer::Pass(None)),
        Some(recode) => Ok(Transfer::Recode(recode)),
        None => Err(format!(
            "cast it to the column's type: `(...)::{}`",
            t.name()
        )),
    }
}

/// What has to be exchanged inside a value; `None` when the types don't correspond.
fn recode(source: &Type, target: &Type) -> Option<Recode> {
    let (s, t) = (base(source), base(target));
    if s.oid() == t.oid() && s.oid() < FIRST_USER_OID {
        return Some(Recode::Same);
    }
    match (s.kind(), t.kind()) {
        (Kind::Enum(have), Kind::Enum(want)) => have
            .iter()
            .all(|label| want.contains(label))
            .then_some(Recode::Same),
        (Kind::Simple | Kind::Pseudo, Kind::Enum(_)) if is_text(s) => Some(Recode::Same),
        (Kind::Array(from), Kind::Array(to)) => {
            Some(Recode::Array(to.oid(), Box::new(recode(from, to)?)))
        }
        (Kind::Range(from), Kind::Range(to)) => match recode(from, to)? {
            Recode::Same => Some(Recode::Same),
            inner => Some(Recode::Range(Box::new(inner))),
        },
        (Kind::Composite(from), Kind::Composite(to)) if from.len() == to.len() => from
            .iter()
            .zip(to)
            .map(|(a, b)| Some((b.type_().oid(), recode(a.type_(), b.type_())?)))
            .collect::<Option<Vec<_>>>()
            .map(Recode::Composite),
        (Kind::Simple, Kind::Simple) if is_text(s) && is_text(t) => Some(Recode::Same),
        // A type of an extension: the same name on both sides is taken to have the same form.
        (Kind::Simple, Kind::Simple)
            if s.oid() >= FIRST_USER_OID && t.oid() >= FIRST_USER_OID && s.name() == t.name() =>
        {
            Some(Recode::Same)
        }
        _ => None,
    }
}

/// The limit that a column's type modifier sets.
///
/// # Errors
/// A modifier that would round values without saying so, and that isn't checked here.
pub(crate) fn limit(column: &Column, target: &Type, source_modifier: i32) -> Result<Limit, String> {
    let modifier = column.type_modifier;
    let characters = (modifier - 4).max(0).unsigned_abs() as usize;
    if *base(target) == Type::BPCHAR && modifier >= 0 {
        return Ok(Limit::Padded(characters));
    }
    if modifier < 0 || modifier == source_modifier {
        return Ok(Limit::None);
    }
    match *base(target) {
        Type::VARCHAR => Ok(Limit::Characters(characters)),
        Type::NUMERIC => {
            let packed = modifier - 4;
            // Eleven bits, signed since PostgreSQL 15 (numeric.c, numeric_typmod_scale).
            let scale = ((packed & 0x7ff) ^ 1024) - 1024;
            Ok(Limit::Numeric {
                precision: (packed >> 16) & 0xffff,
                scale,
            })
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME if (0..=6).contains(&modifier) => {
            Ok(if modifier == 6 {
                Limit::None
            } else {
                Limit::TimeStep(10_i64.pow(6 - modifier.unsigned_abs()))
            })
        }
        Type::BIT | Type::VARBIT => Ok(Limit::None),
        _ => Err(format!(
            "values would be rounded or cut to {} without a word: cast the expression to {} yourself",
            column.type_name, column.type_name
        )),
    }
}

/// Exchanges the OIDs inside `value`; `None` when it isn't laid out as its type says.
pub(crate) fn apply(recode: &Recode, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match recode {
        Recode::Same => {
            out.extend_from_slice(value);
            Some(())
        }
        Recode::Array(oid, element) => array(*oid, element, value, out),
        Recode::Composite(fields) => composite(fields, value, out),
        Recode::Range(bound) => range(bound, value, out),
    }
}

fn int(value: &[u8], at: usize) -> Option<i32> {
    value
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(i32::from_be_bytes)
}

/// Copies one length-prefixed part, with its inside exchanged; the position after it.
fn part(recode: &Recode, value: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let len = int(value, at)?;
    if len < 0 {
        out.extend_from_slice(&value[at..at + 4]);
        return Some(at + 4);
    }
    let len = len.unsigned_abs() as usize;
    let inside = value.get(at + 4..at + 4 + len)?;
    let mark = out.len();
    out.extend_from_slice(&[0; 4]);
    apply(recode, inside, out)?;
    let written = i32::try_from(out.len() - mark - 4).ok()?;
    out[mark..mark + 4].copy_from_slice(&written.to_be_bytes());
    Some(at + 4 + len)
}

/// Array: dimensions, flags, element OID, (length, lower bound) per dimension, elements
/// (arrayfuncs.c, array_send).
fn array(oid: u32, element: &Recode, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let dimensions = int(value, 0)?;
    let head = 12 + 8 * usize::try_from(dimensions).ok()?;
    out.extend_from_slice(value.get(..8)?);
    out.extend_from_slice(&oid.to_be_bytes());
    out.extend_from_slice(value.get(12..head)?);
    let mut at = head;
    while at < value.len() {
        at = part(element, value, at, out)?;
    }
    Some(())
}

/// Composite: number of fields, then OID and value of each (rowtypes.c, record_send).
fn composite(fields: &[(u32, Recode)], value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if usize::try_from(int(value, 0)?).ok()? != fields.len() {
        return None;
    }
    out.extend_from_slice(&value[..4]);
    let mut at = 4;
    for (oid, field) in fields {
        out.extend_from_slice(&oid.to_be_bytes());
        at = part(field, value, at + 4, out)?;
    }
    Some(())
}

/// Range: flags, then the bounds that there are (rangetypes.c, range_send).
fn range(bound: &Recode, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(*value.first()?);
    let mut at = 1;
    while at < value.len() {
        at = part(bound, value, at, out)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_oids_in_nested_values_and_survives_any_bytes() {
        let recode = Recode::Composite(vec![
            (23, Recode::Same),
            (77_777, Recode::Array(66_666, Box::new(Recode::Same))),
        ]);
        let mut value = Vec::new();
        value.extend(2i32.to_be_bytes());
        value.extend(23u32.to_be_bytes());
        value.extend(4i32.to_be_bytes());
        value.extend(5i32.to_be_bytes());
        value.extend(11_111u32.to_be_bytes());
        let mut inner = Vec::new();
        for n in [1i32, 0, 22_222, 1, 1] {
            inner.extend(n.to_be_bytes());
        }
        inner.extend(2i32.to_be_bytes());
        inner.extend(b"ab");
        value.extend((inner.len() as i32).to_be_bytes());
        value.extend(&inner);

        let mut out = Vec::new();
        apply(&recode, &value, &mut out).unwrap();
        assert_eq!(out.len(), value.len());
        assert_eq!(&out[16..20], &77_777u32.to_be_bytes());
        assert_eq!(&out[32..36], &66_666u32.to_be_bytes());
        assert_eq!(&out[48..], b"ab");

        for end in 0..value.len() {
            let _ = apply(&recode, &value[..end], &mut Vec::new());
        }
    }
}
