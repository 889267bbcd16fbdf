//! The texts of table cells that several kinds share, formed as kubectl users know them.

use super::fields;
use jiff::Timestamp;
use serde_json::Value;

/// What an empty cell shows.
pub(super) const NONE: &str = "<none>";

/// The text, or `<none>` for an empty one.
pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { text.to_owned() }
}

/// The texts joined by commas, or `<none>`.
pub(super) fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    or_none(&texts.into_iter().collect::<Vec<_>>().join(","))
}

/// Time since an RFC 3339 timestamp in kubectl's short form; `<unknown>` for none.
pub(super) fn since(timestamp: &str, now: Timestamp) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(then) => duration(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Seconds in kubectl's short form: the larger the span, the coarser.
pub(super) fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// One field of every container of a pod spec, joined by commas.
pub(super) fn container_fields(object: &Value, pod_spec: &str, field: &str) -> String {
    let containers = fields::list(object, &format!("{pod_spec}/containers"));
    let texts: Vec<&str> = containers
        .iter()
        .map(|container| container.get(field).and_then(Value::as_str).unwrap_or_default())
        .collect();
    texts.join(",")
}

/// A plain map of labels as `a=b,c=d`, or `<none>`.
pub(super) fn labels(object: &Value, pointer: &str) -> String {
    let mut pairs: Vec<String> = fields::pairs(object, pointer)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    or_none(&pairs.join(","))
}

/// A label selector with its expressions, as `a=b,c in (x,y),!d`, or `<none>`.
pub(super) fn label_selector(object: &Value, pointer: &str) -> String {
    let Some(selector) = object.pointer(pointer) else { return NONE.to_owned() };
    let mut parts: Vec<String> = fields::pairs(selector, "/matchLabels")
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    parts.extend(fields::list(selector, "/matchExpressions").iter().map(requirement));
    parts.sort();
    or_none(&parts.join(","))
}

fn requirement(expression: &Value) -> String {
    let key = fields::text(expression, "/key");
    let mut values: Vec<&str> =
        fields::list(expression, "/values").iter().filter_map(Value::as_str).collect();
    values.sort_unstable();
    let values = values.join(",");
    match fields::text(expression, "/operator") {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.to_owned(),
    }
}

/// The access modes of a volume: `RWO,ROX`.
pub(super) fn access_modes(object: &Value, pointer: &str) -> String {
    let short = fields::list(object, pointer).iter().filter_map(Value::as_str).map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    short.collect::<Vec<_>>().join(",")
}

/// A value that is a number in one object and a text in the next (`25%` or 1), or `absent`.
pub(super) fn int_or_text(object: &Value, pointer: &str, absent: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => absent.to_owned(),
    }
}

/// The condition of that type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    fields::list(object, "/status/conditions")
        .iter()
        .find(|condition| fields::text(condition, "/type") == kind)
}

/// Whether the condition of that type is `True`.
pub(super) fn condition_holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| fields::text(condition, "/status") == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_get_coarser_with_length() {
        let table = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (13_500, "3h45m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (187_200, "2d4h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (315_360_000, "10y"),
        ];
        for (seconds, expected) in table {
            assert_eq!(duration(seconds), expected, "{seconds} s");
        }
    }

    #[test]
    fn selectors_read_like_kubectl_prints_them() {
        let object = serde_json::json!({"selector": {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }});
        assert_eq!(label_selector(&object, "/selector"), "!old,app=web,tier in (a,b)");
        assert_eq!(label_selector(&object, "/absent"), "<none>");
    }
}
