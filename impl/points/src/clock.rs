//! Times as PostgreSQL gives them to commits.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// Microseconds since 1970, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp(pub i64);

/// A text that is no time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no time: write it like 2026-11-26 12:00:00.5, in UTC, or with an offset like +02:00 behind it")]
pub struct NoTime(String);

impl Stamp {
    /// What this machine's clock says.
    pub fn now() -> Stamp {
        Stamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64))
    }
}

impl FromStr for Stamp {
    type Err = NoTime;

    /// Reads `2026-11-26 12:00:00.5`, in UTC unless an offset follows. Seconds may be left out.
    fn from_str(text: &str) -> Result<Stamp, NoTime> {
        parse(text.trim()).ok_or_else(|| NoTime(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Stamp> {
    let (date, rest) = text.split_once([' ', 'T'])?;
    let (clock, offset) = match rest.find([' ', 'Z', 'U', '+', '-']) {
        Some(at) => (&rest[..at], offset_seconds(rest[at..].trim())?),
        None => (rest, 0),
    };
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (number(date.next()?)?, number(date.next()?)?, number(date.next()?)?);
    let mut clock = clock.splitn(3, ':');
    let (hour, minute, seconds) = (number(clock.next()?)?, number(clock.next()?)?, clock.next().unwrap_or("0"));
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let micros: u32 = (fraction.len() <= 6).then(|| number(&format!("{fraction:0<6}")))??;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let (hour, minute) = (u8::try_from(hour).ok()?, u8::try_from(minute).ok()?);
    let time = Time::from_hms_micro(hour, minute, u8::try_from(number(second)?).ok()?, micros).ok()?;
    let utc = PrimitiveDateTime::new(date, time).assume_utc();
    Some(Stamp(i64::try_from(utc.unix_timestamp_nanos() / 1000).ok()? - offset * 1_000_000))
}

/// Digits alone.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "UTC") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = &text[1..];
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 15 && minutes < 60).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000) else {
            return write!(f, "{} µs since 1970", self.0);
        };
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let micros = at.microsecond();
        write!(f, "{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}+00", u8::from(month))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        let at = "2026-11-26 12:00:00.500000+00";
        for text in [
            at,
            "2026-11-26 12:00:00.5",
            "2026-11-26T12:00:00.5Z",
            "2026-11-26 12:00:00.500000 UTC",
            "2026-11-26 14:00:00.5+02",
            "2026-11-26 07:30:00.5-04:30",
            "2026-11-26 07:30:00.5 -0430",
        ] {
            assert_eq!(text.parse::<Stamp>().map(|stamp| stamp.to_string()), Ok(at.to_owned()), "{text}");
        }
        assert_eq!("1970-01-01 00:01".parse(), Ok(Stamp(60_000_000)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-26",
            "2026-13-26 12:00",
            "2026-11-26 25:00",
            "2026-11-26 12:00:00.1234567",
            "2026-11-26 12:00 CET",
            "2026-11-26 12:00:+1",
            "2026-11-26 12:00 +99",
            "2026-11-26 12:-1",
        ] {
            assert!(text.parse::<Stamp>().is_err(), "{text}");
        }
    }
}
