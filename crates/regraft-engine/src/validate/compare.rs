//! Comparison of values of both databases in their binary forms, as their type compares them and
//! not as they print.

use tokio_postgres::types::{Kind, Type};

use super::json::{self, Strings};

/// How two values of a type are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Byte by byte: text, integers, times, uuid, bytea and all that has one form only. Text is
    /// compared by its characters whatever its collation says.
    Bytes,
    /// Text whose blanks at the end don't count: character(n).
    Padded,
    /// By value, whatever the scale.
    Numeric,
    /// float4 and float8: every NaN is one value; 0 and -0 are two.
    Float,
    /// As documents.
    Jsonb,
    /// Element by element, with the bounds.
    Array(Box<Shape>),
}

/// What has to be done to a value on either side before two can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Type to cast the source's expression to.
    pub(super) source_cast: Option<&'static str>,
    /// Type to cast the target's column to.
    pub(super) target_cast: Option<&'static str>,
    /// How the results are compared.
    pub(super) shape: Shape,
}

/// Types with smaller OIDs are built in, and their binary forms are the same in every cluster.
const FIRST_USER_OID: u32 = 16_384;

/// How a value of type `source` is compared with a column of type `target`; `None` when the
/// project would have to cast it first. No cast here changes a value.
pub(super) fn comparison(source: &Type, target: &Type) -> Option<Comparison> {
    let (s, t) = (base(source), base(target));
    let cast = |source_cast, target_cast, shape| {
        Some(Comparison {
            source_cast,
            target_cast,
            shape,
        })
    };
    let text_shape = if *t == Type::BPCHAR {
        Shape::Padded
    } else {
        Shape::Bytes
    };
    if is_integer(s) && is_integer(t) {
        return cast(Some("int8"), Some("int8"), Shape::Bytes);
    }
    if is_label(s) && is_label(t) {
        return cast(Some("text"), Some("text"), text_shape);
    }
    match (s, t) {
        (_, &Type::NUMERIC) if is_integer(s) => return cast(Some("numeric"), None, Shape::Numeric),
        (&Type::INT2 | &Type::INT4 | &Type::FLOAT4, &Type::FLOAT8) => {
            return cast(Some("float8"), None, Shape::Float);
        }
        (&Type::JSON | &Type::JSONB, &Type::JSONB) => {
            return cast(Some("jsonb"), None, Shape::Jsonb);
        }
        (&Type::JSON | &Type::JSONB, &Type::JSON) => {
            return cast(Some("json::text"), Some("text"), Shape::Bytes);
        }
        _ => {}
    }
    if let (Kind::Array(from), Kind::Array(to)) = (s.kind(), t.kind())
        && is_label(base(from))
        && is_label(base(to))
    {
        let shape = if *base(to) == Type::BPCHAR {
            Shape::Padded
        } else {
            Shape::Bytes
        };
        return cast(
            Some("text[]"),
            Some("text[]"),
            Shape::Array(Box::new(shape)),
        );
    }
    if is_built_in(s) && s.oid() == t.oid() {
        return cast(None, None, shape(t));
    }
    own_types(s, t)
}

/// Types that belong to one cluster: their OIDs differ, their text forms don't.
fn own_types(s: &Type, t: &Type) -> Option<Comparison> {
    let cast = |to, shape| {
        Some(Comparison {
            source_cast: Some(to),
            target_cast: Some(to),
            shape,
        })
    };
    match (s.kind(), t.kind()) {
        (Kind::Array(from), Kind::Array(to)) if !is_built_in(from) && !is_built_in(to) => {
            own_types(base(from), base(to))
                .and_then(|_| cast("text[]", Shape::Array(Box::new(Shape::Bytes))))
        }
        (Kind::Composite(from), Kind::Composite(to)) if from.len() == to.len() => {
            cast("text", Shape::Bytes)
        }
        (Kind::Range(_), Kind::Range(_)) | (Kind::Multirange(_), Kind::Multirange(_)) => {
            cast("text", Shape::Bytes)
        }
        (Kind::Simple, Kind::Simple)
            if !is_built_in(s) && !is_built_in(t) && s.name() == t.name() =>
        {
            cast("text", Shape::Bytes)
        }
        _ => None,
    }
}

/// The type under any number of domains.
pub(super) fn base(of: &Type) -> &Type {
    match of.kind() {
        Kind::Domain(inner) => base(inner),
        _ => of,
    }
}

fn is_integer(of: &Type) -> bool {
    matches!(*of, Type::INT2 | Type::INT4 | Type::INT8)
}

/// Text of any kind, and enums: both are their characters.
pub(super) fn is_label(of: &Type) -> bool {
    matches!(
        *of,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN
    ) || of.name() == "citext"
        || matches!(of.kind(), Kind::Enum(_))
}

fn is_built_in(of: &Type) -> bool {
    of.oid() < FIRST_USER_OID
}

/// The shape of a built-in type.
fn shape(of: &Type) -> Shape {
    match (of, of.kind()) {
        (_, Kind::Array(element)) => Shape::Array(Box::new(shape(base(element)))),
        (&Type::NUMERIC, _) => Shape::Numeric,
        (&Type::FLOAT4 | &Type::FLOAT8, _) => Shape::Float,
        (&Type::JSONB, _) => Shape::Jsonb,
        (&Type::BPCHAR, _) => Shape::Padded,
        _ => Shape::Bytes,
    }
}

impl Shape {
    /// Whether two values are the same; NULL is the same as NULL only.
    pub(super) fn same(&self, a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
        match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => a == b || self.same_value(a, b),
            _ => false,
        }
    }

    /// Whether two values whose bytes differ are the same all the same.
    fn same_value(&self, a: &[u8], b: &[u8]) -> bool {
        let both = |x: Option<Vec<u8>>, y: Option<Vec<u8>>| x.is_some() && x == y;
        match self {
            Self::Bytes => false,
            Self::Padded => without_blanks(a) == without_blanks(b),
            Self::Numeric => both(numeric(a), numeric(b)),
            Self::Float => is_nan(a) && is_nan(b),
            Self::Jsonb => both(document(a), document(b)),
            Self::Array(element) => same_arrays(element, a, b).unwrap_or(false),
        }
    }
}

fn without_blanks(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .rposition(|byte| *byte != b' ')
        .map_or(0, |last| last + 1);
    &text[..end]
}

fn is_nan(bytes: &[u8]) -> bool {
    if let Ok(bytes) = bytes.try_into() {
        return f32::from_be_bytes(bytes).is_nan();
    }
    bytes
        .try_into()
        .is_ok_and(|bytes| f64::from_be_bytes(bytes).is_nan())
}

/// jsonb begins with a version (jsonb.c, jsonb_send).
fn document(value: &[u8]) -> Option<Vec<u8>> {
    let (version, text) = value.split_first()?;
    if *version != 1 {
        return None;
    }
    json::canonical(text, Strings::Characters)
}

/// A numeric without its display scale and without zero digits at either end. Binary form
/// (numeric.c, numeric_send): count of digits, weight, sign, display scale, digits to the base
/// 10000, each of 16 bits.
fn numeric(value: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| {
        value
            .get(2 * at..2 * at + 2)
            .map(|b| i16::from_be_bytes([b[0], b[1]]))
    };
    let (count, weight, sign) = (word(0)?, word(1)?, word(2)?);
    let digits: Vec<i16> = (0..usize::try_from(count).ok()?)
        .map(|i| word(4 + i))
        .collect::<Option<_>>()?;
    let sign = sign.to_be_bytes();
    // Above the sign bit: NaN and the infinities, which have no digits.
    if sign[0] & 0x80 != 0 {
        return Some(sign.to_vec());
    }
    let Some(first) = digits.iter().position(|digit| *digit != 0) else {
        return Some(Vec::new());
    };
    let last = digits
        .iter()
        .rposition(|digit| *digit != 0)
        .unwrap_or(first);
    let weight = i32::from(weight) - i32::try_from(first).ok()?;
    let mut canonical = sign.to_vec();
    canonical.extend_from_slice(&weight.to_be_bytes());
    canonical.extend(
        digits[first..=last]
            .iter()
            .flat_map(|digit| digit.to_be_bytes()),
    );
    Some(canonical)
}

/// An array in its binary form (arrayfuncs.c, array_send): count of dimensions, whether there are
/// NULLs, the element type's OID, length and lower bound of each dimension, elements.
fn same_arrays(element: &Shape, a: &[u8], b: &[u8]) -> Option<bool> {
    let dimensions = int(a, 0)?;
    if Some(dimensions) != int(b, 0) {
        return Some(false);
    }
    let head = 12 + 8 * usize::try_from(dimensions).ok()?;
    if a.get(12..head)? != b.get(12..head)? {
        return Some(false);
    }
    let (mut at_a, mut at_b) = (head, head);
    while at_a < a.len() && at_b < b.len() {
        let (x, y);
        (x, at_a) = part(a, at_a)?;
        (y, at_b) = part(b, at_b)?;
        if !element.same(x, y) {
            return Some(false);
        }
    }
    Some(at_a == a.len() && at_b == b.len())
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(i32::from_be_bytes)
}

/// The element at `at`, and where the next one begins.
fn part(bytes: &[u8], at: usize) -> Option<(Option<&[u8]>, usize)> {
    let Ok(len) = usize::try_from(int(bytes, at)?) else {
        return Some((None, at + 4));
    };
    let end = at.checked_add(4)?.checked_add(len)?;
    Some((Some(bytes.get(at + 4..end)?), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(weight: i16, sign: u16, scale: u16, digits: &[i16]) -> Vec<u8> {
        let mut bytes = (digits.len() as i16).to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        bytes.extend(digits.iter().flat_map(|d| d.to_be_bytes()));
        bytes
    }

    #[test]
    fn numerics_are_equal_by_value() {
        let same = |a: &[u8], b: &[u8]| Shape::Numeric.same(Some(a), Some(b));
        let value = number(0, 0, 2, &[1, 5000]);
        assert!(
            same(&value, &number(0, 0, 4, &[1, 5000])),
            "1.50 and 1.5000"
        );
        assert!(
            same(&value, &number(1, 0, 2, &[0, 1, 5000, 0])),
            "zero digits at either end"
        );
        assert!(!same(&value, &number(0, 0x4000, 2, &[1, 5000])), "the sign");
        assert!(!same(&value, &number(0, 0, 2, &[1, 5001])), "rounded");
        assert!(!same(&value, &number(1, 0, 2, &[1, 5000])), "another power");
        assert!(
            same(&number(0, 0, 0, &[]), &number(5, 0x4000, 9, &[0])),
            "zero"
        );
        assert!(
            same(&number(0, 0xc000, 0, &[]), &number(0, 0xc000, 3, &[])),
            "NaN"
        );
        assert!(
            !same(&number(0, 0xd000, 0, &[]), &number(0, 0xf000, 0, &[])),
            "the infinities"
        );
        assert!(
            !same(&number(0, 0, 0, &[]), &number(0, 0xc000, 0, &[])),
            "0 and NaN"
        );
    }

    #[test]
    fn floats_are_equal_by_their_bits_but_for_nan() {
        let same =
            |a: f64, b: f64| Shape::Float.same(Some(&a.to_be_bytes()), Some(&b.to_be_bytes()));
        assert!(same(1.5, 1.5) && same(f64::NAN, f64::from_bits(f64::NAN.to_bits() | 1)));
        assert!(!same(0.0, -0.0) && !same(1.0, 1.0 + f64::EPSILON) && !same(f64::NAN, 0.0));
    }

    #[test]
    fn null_is_no_value() {
        for shape in [
            Shape::Bytes,
            Shape::Padded,
            Shape::Numeric,
            Shape::Float,
            Shape::Jsonb,
        ] {
            assert!(
                shape.same(None, None)
                    && !shape.same(None, Some(b""))
                    && !shape.same(Some(b""), None)
            );
        }
        assert!(
            Shape::Padded.same(Some(b"ab  "), Some(b"ab"))
                && !Shape::Padded.same(Some(b" ab"), Some(b"ab"))
        );
        assert!(!Shape::Bytes.same(Some(b"ab "), Some(b"ab")));
    }

    #[test]
    fn types_are_compared_without_a_cast_that_could_change_a_value() {
        let casts = |s: &Type, t: &Type| comparison(s, t).map(|c| (c.source_cast, c.target_cast));
        assert_eq!(
            casts(&Type::INT4, &Type::INT8),
            Some((Some("int8"), Some("int8")))
        );
        assert_eq!(
            casts(&Type::INT4, &Type::NUMERIC),
            Some((Some("numeric"), None))
        );
        assert_eq!(casts(&Type::NUMERIC, &Type::NUMERIC), Some((None, None)));
        assert_eq!(casts(&Type::NUMERIC, &Type::INT4), None);
        assert_eq!(casts(&Type::INT8, &Type::FLOAT8), None);
        assert_eq!(casts(&Type::TIMESTAMP, &Type::TIMESTAMPTZ), None);
        assert_eq!(casts(&Type::TEXT, &Type::JSONB), None);
        assert_eq!(
            comparison(&Type::NUMERIC_ARRAY, &Type::NUMERIC_ARRAY).map(|c| c.shape),
            Some(Shape::Array(Box::new(Shape::Numeric)))
        );
    }
}
