//! Dates as indexes write them. Pure.

use musicfs_core::UnixNanos;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads nginx's `21-Oct-2015` and `07:28`, which are UTC.
pub(super) fn nginx(date: &str, time: &str) -> Option<UnixNanos> {
    let mut parts = date.split('-');
    let day = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;
    let year = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    let (hour, minute) = time.split_once(':')?;
    seconds([year, month, day], [two(hour)?, two(minute)?, 0])
}

/// Reads `2015-10-21T07:28:30.5+02:00` (RFC 3339), cut to whole seconds.
pub(super) fn rfc3339(text: &str) -> Option<UnixNanos> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let date = [parts.next()??, parts.next()??, parts.next()??];
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let time = time.split('.').next()?;
    let mut parts = time.splitn(3, ':').map(two);
    let time = [parts.next()??, parts.next()??, parts.next()??];
    let ahead = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, zone) => {
            let (hours, minutes) = zone.split_once(':')?;
            let ahead = two(hours)? * 3600 + two(minutes)? * 60;
            if sign == "-" { -ahead } else { ahead }
        }
    };
    let (utc, _) = seconds(date, time)?.parts();
    Some(UnixNanos::from_parts(utc - ahead, 0))
}

fn two(text: &str) -> Option<i64> {
    if text.len() == 2 { text.parse().ok() } else { None }
}

fn seconds([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3]) -> Option<UnixNanos> {
    let sane = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !sane {
        return None;
    }
    // Days since 1970 in a calendar whose years begin in March, so that leap days come last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1;
    let days = days - 719_468;
    Some(UnixNanos::from_parts(((days * 24 + hour) * 60 + minute) * 60 + second, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(time: Option<UnixNanos>) -> Option<i64> {
        time.map(|time| time.parts().0)
    }

    #[test]
    fn dates_are_read_as_utc() {
        assert_eq!(secs(nginx("21-Oct-2015", "07:28")), Some(1_445_412_480));
        assert_eq!(secs(nginx("01-Jan-1970", "00:00")), Some(0));
        assert_eq!(secs(nginx("29-Feb-2024", "23:59")), Some(1_709_251_140));
        assert_eq!(secs(rfc3339("2015-10-21T07:28:30Z")), Some(1_445_412_510));
        assert_eq!(secs(rfc3339("2015-10-21T07:28:30.999999999Z")), Some(1_445_412_510));
        assert_eq!(secs(rfc3339("2015-10-21T09:28:30+02:00")), Some(1_445_412_510));
        assert_eq!(secs(rfc3339("2015-10-20T23:28:30.1-08:00")), Some(1_445_412_510));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for bad in ["", "2015", "2015-10-21", "2015-10-21T07:28:30", "2015-13-21T07:28:30Z", "x-y-zTa:b:cZ"] {
            assert_eq!(rfc3339(bad), None, "{bad}");
        }
        assert_eq!(nginx("2015-10-21", "07:28"), None);
        assert_eq!(nginx("21-Okt-2015", "07:28"), None);
        assert_eq!(nginx("21-Oct-2015", "7:28 PM"), None);
    }
}
