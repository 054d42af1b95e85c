//! Whether a numeric fits numeric(precision, scale) without being changed.
//!
//! Binary form (numeric.c, numeric_send): number of base-10000 digits, weight of the first, sign,
//! display scale (16 bits each), digits.

/// How a value fails to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// Too many digits before the point.
    Range,
    /// Digits after the point that would be rounded away.
    Scale,
}

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;

/// Gives a numeric that fits the display scale that its column gives every value, so that its bytes
/// are those that the target will send back.
pub(crate) fn set_scale(value: &mut [u8], scale: i32) {
    let is_number = value
        .get(4..6)
        .is_some_and(|sign| sign == [0, 0] || sign == NEGATIVE.to_be_bytes());
    if let (true, Ok(scale), Some(place)) =
        (is_number, u16::try_from(scale.max(0)), value.get_mut(6..8))
    {
        place.copy_from_slice(&scale.to_be_bytes());
    }
}

/// Checks a numeric in its binary form; `None` when it fits.
pub(crate) fn misfit(value: &[u8], precision: i32, scale: i32) -> Option<Misfit> {
    let word = |at: usize| {
        value
            .get(at..at + 2)
            .map(|b| u16::from_be_bytes([b[0], b[1]]))
    };
    let (Some(count), Some(weight), Some(sign)) = (word(0), word(2), word(4)) else {
        return Some(Misfit::Range);
    };
    if sign == NAN {
        return None;
    }
    if sign != 0 && sign != NEGATIVE {
        // Infinities don't fit any precision.
        return Some(Misfit::Range);
    }
    let mut exponents: Option<(i32, i32)> = None;
    for i in 0..count {
        let digit = word(8 + 2 * usize::from(i))?;
        if digit == 0 {
            continue;
        }
        let place = 4 * (i32::from(weight.cast_signed()) - i32::from(i));
        let lowest = place
            + digit
                .to_string()
                .chars()
                .rev()
                .take_while(|c| *c == '0')
                .count() as i32;
        let highest = place + digit.ilog10().cast_signed();
        exponents = Some(exponents.map_or((highest, lowest), |(first, _)| (first, lowest)));
    }
    let (highest, lowest) = exponents?;
    if highest >= precision - scale {
        Some(Misfit::Range)
    } else if lowest < -scale {
        Some(Misfit::Scale)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(weight: i16, digits: &[u16], sign: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((digits.len() as u16).to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(0u16.to_be_bytes());
        for digit in digits {
            bytes.extend(digit.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn fits_as_the_server_would_say() {
        // 12.34 is 12 | 3400
        let value = numeric(0, &[12, 3400], 0);
        assert_eq!(misfit(&value, 4, 2), None);
        assert_eq!(misfit(&value, 3, 2), Some(Misfit::Range));
        assert_eq!(misfit(&value, 4, 1), Some(Misfit::Scale));
        // 0.00005 is weight -2, 5000
        assert_eq!(misfit(&numeric(-2, &[5000], 0), 5, 4), Some(Misfit::Scale));
        assert_eq!(misfit(&numeric(-2, &[5000], 0), 5, 5), None);
        // 9.9999 in numeric(5,4), 10.25 not
        assert_eq!(misfit(&numeric(0, &[9, 9999], NEGATIVE), 5, 4), None);
        assert_eq!(
            misfit(&numeric(0, &[10, 2500], 0), 5, 4),
            Some(Misfit::Range)
        );
        // 12000 in numeric(2,-3)
        assert_eq!(misfit(&numeric(1, &[1, 2000], 0), 2, -3), None);
        assert_eq!(misfit(&numeric(0, &[], 0), 1, 0), None);
        assert_eq!(misfit(&numeric(0, &[], 0xd000), 10, 0), Some(Misfit::Range));
        assert_eq!(misfit(&numeric(0, &[], NAN), 10, 0), None);
    }
}
