//! Quantities of resources (`500m`, `128Mi`, `2e3`), exact to a billionth.
//!
//! A quantity is an integer number of billionths together with the notation it was written in, so that sums and
//! comparisons never round. Text is normalized as Kubernetes does: no fraction, the largest suffix that keeps the number
//! whole (`1000m` is `1`, `0.5` is `500m`, `1024Mi` is `1Gi`). What is finer than a billionth is rounded away from zero,
//! what is larger than 2^63-1 is cut to that.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const LARGEST: i128 = i64::MAX as i128 * NANO;
/// More digits of a fraction than this cannot matter to a billionth, not even with the largest suffix.
const FRACTION_DIGITS: usize = 27;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// An amount of cpu, memory, pods or any other resource.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// `500m`, `2k`
    Decimal,
    /// `128Mi`
    Binary,
    /// `2e3`
    Exponent,
}

/// Why a text is no quantity; the texts are Kubernetes' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form number and suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// The number has no digits or two points.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nanos: 0, notation: Notation::Decimal };

    /// Whole units, written with decimal suffixes.
    pub fn from_units(units: i64) -> Quantity {
        Quantity { nanos: i128::from(units) * NANO, notation: Notation::Decimal }
    }

    /// Whole bytes, written with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity { nanos: i128::from(bytes) * NANO, notation: Notation::Binary }
    }

    /// Thousandths, the unit of cpu accounting.
    pub fn from_milli(milli: i64) -> Quantity {
        Quantity { nanos: i128::from(milli) * (NANO / 1000), notation: Notation::Decimal }
    }

    /// Whole units, rounded up.
    pub fn units(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up.
    pub fn milli(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO / 1000))
    }

    /// As near as a floating point number comes.
    pub fn approximate(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether it is exactly nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    fn with_notation_of(nanos: i128, left: &Quantity, right: &Quantity) -> Quantity {
        let notation = if left.is_zero() { right.notation } else { left.notation };
        Quantity { nanos: nanos.clamp(-LARGEST, LARGEST), notation }
    }

    fn write_binary(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = self.nanos / NANO;
        let mut power = 0;
        while units % 1024 == 0 && power + 1 < BINARY.len() {
            units /= 1024;
            power += 1;
        }
        write!(formatter, "{units}{}", BINARY[power])
    }

    fn write_decimal(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = self.nanos;
        let mut step = 0;
        while number % 1000 == 0 && step + 1 < DECIMAL.len() {
            number /= 1000;
            step += 1;
        }
        let (suffix, exponent) = DECIMAL[step];
        match self.notation {
            Notation::Exponent if exponent != 0 => write!(formatter, "{number}e{exponent}"),
            Notation::Exponent => write!(formatter, "{number}"),
            _ => write!(formatter, "{number}{suffix}"),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let large = self.nanos.abs() >= 1024 * NANO;
        match self.notation {
            _ if self.nanos == 0 => formatter.write_str("0"),
            Notation::Binary if large && self.is_whole() => self.write_binary(formatter),
            _ => self.write_decimal(formatter),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty() || !suffix.bytes().all(|byte| b"eEinumkKMGTP+-0123456789".contains(&byte)) {
            return Err(QuantityError::Form);
        }
        let (factor, exponent, notation) = suffix_of(suffix)?;
        let nanos = scaled(number, factor, exponent)?;
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, notation })
    }
}

/// The factor and the power of ten that a suffix stands for.
fn suffix_of(suffix: &str) -> Result<(i128, i32, Notation), QuantityError> {
    if let Some(&(_, exponent)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
        return Ok((1, exponent, Notation::Decimal));
    }
    if let Some(power) = BINARY.iter().position(|known| *known == suffix) {
        return Ok((1_i128 << (10 * power), 0, Notation::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((1, exponent, Notation::Exponent))
}

/// `number * factor * 10^exponent` in billionths, rounded up.
fn scaled(number: &str, factor: i128, exponent: i32) -> Result<i128, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(QuantityError::Number);
    }
    let fraction = fraction.trim_end_matches('0');
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let rest = i128::from(kept.len() < fraction.len());
    let digits = format!("{}{kept}", whole.trim_start_matches('0'));
    let digits = digits.trim_start_matches('0');
    let Ok(mantissa) = (if digits.is_empty() { Ok(0) } else { digits.parse::<i128>() }) else {
        return Ok(LARGEST);
    };
    let power = i64::from(exponent) + 9 - kept.len() as i64;
    let nanos = mantissa.checked_mul(factor).and_then(|product| shift(product, power, rest));
    Ok(nanos.map_or(LARGEST, |nanos| nanos.min(LARGEST)))
}

/// `number * 10^power` rounded up; `None` where it does not fit.
fn shift(number: i128, power: i64, rest: i128) -> Option<i128> {
    let ten = |power: u64| u32::try_from(power).ok().and_then(|power| 10_i128.checked_pow(power));
    if power < 0 {
        let smallest = i128::from(number > 0 || rest > 0);
        return Some(ten(power.unsigned_abs()).map_or(smallest, |by| divide_up(number + rest, by)));
    }
    if number == 0 {
        return Some(rest);
    }
    ten(power.unsigned_abs()).and_then(|by| number.checked_mul(by)).map(|shifted| shifted + rest)
}

/// Division that rounds away from zero.
fn divide_up(number: i128, by: i128) -> i128 {
    let quotient = number / by;
    if number % by == 0 { quotient } else { quotient + number.signum() }
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        Quantity::with_notation_of(self.nanos + other.nanos, &self, &other)
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        Quantity::with_notation_of(self.nanos - other.nanos, &self, &other)
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests;
