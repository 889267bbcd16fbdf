//! One thing that happened, in the words of `docker events`; also the line that the journal keeps of it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// One event, with its fields in Docker's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// These three repeat what follows, for clients of old.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    from: String,
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(rename = "Action")]
    pub(super) action: String,
    #[serde(rename = "Actor")]
    pub(super) actor: Actor,
    scope: String,
    /// Seconds since 1970.
    time: i64,
    #[serde(rename = "timeNano")]
    pub(super) time_nano: i64,
}

/// Whom it happened to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Actor {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Attributes")]
    pub(super) attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something that happened just now.
    pub(crate) fn now(kind: Kind, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Self {
        let without = matches!(kind, Kind::Network | Kind::Volume);
        let repeated = |text: &str| if without { String::new() } else { text.to_owned() };
        let image = (kind == Kind::Container).then(|| attributes.get("image").cloned()).flatten();
        Self {
            status: repeated(action),
            id: repeated(id),
            from: image.unwrap_or_default(),
            kind: kind.word().to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local".to_owned(),
            time: 0,
            time_nano: 0,
        }
        .at(i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0))
    }

    /// The same at another time, in nanoseconds since 1970.
    pub(crate) fn at(mut self, nanoseconds: i64) -> Self {
        (self.time, self.time_nano) = (nanoseconds / 1_000_000_000, nanoseconds);
        self
    }

    /// Docker's line for people: time, type, action, id, and the attributes by name.
    pub(super) fn text(&self, zone: &TimeZone) -> String {
        let time = Timestamp::from_nanosecond(self.time_nano.into()).unwrap_or_default();
        let zoned = time.to_zoned(zone.clone());
        let offset =
            if zoned.offset().is_zero() { "Z".to_owned() } else { zoned.strftime("%:z").to_string() };
        let attributes: Vec<String> =
            self.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let attributes = match attributes.is_empty() {
            true => String::new(),
            false => format!(" ({})", attributes.join(", ")),
        };
        let time = zoned.strftime("%Y-%m-%dT%H:%M:%S%.9f");
        format!("{time}{offset} {} {} {}{attributes}", self.kind, self.action, self.actor.id)
    }

    /// What a template sees.
    pub(super) fn fields(&self) -> Value {
        json!({
            "Status": self.status, "ID": self.id, "From": self.from, "Type": self.kind, "Action": self.action,
            "Actor": self.actor, "Scope": self.scope, "Time": self.time, "TimeNano": self.time_nano,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let attributes = [("name", "web"), ("image", "base:1"), ("exitCode", "3")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Event::now(Kind::Container, "die", "abc", attributes.into()).at(1_500_000_000_000_000_001)
    }

    #[test]
    fn lines_are_dockers() {
        assert_eq!(
            event().text(&TimeZone::UTC),
            "2017-07-14T02:40:00.000000001Z container die abc (exitCode=3, image=base:1, name=web)"
        );
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert!(event().text(&east).starts_with("2017-07-14T04:40:00.000000001+02:00 container die abc"));
        let volume = Event::now(Kind::Volume, "create", "v", BTreeMap::new()).at(0);
        assert_eq!(volume.text(&TimeZone::UTC), "1970-01-01T00:00:00.000000000Z volume create v");
    }

    #[test]
    fn documents_are_dockers() {
        let document = serde_json::to_string(&event()).unwrap();
        assert_eq!(
            document,
            r#"{"status":"die","id":"abc","from":"base:1","Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"exitCode":"3","image":"base:1","name":"web"}},"scope":"local","time":1500000000,"timeNano":1500000000000000001}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&document).unwrap(), event());
        let volume = Event::now(Kind::Volume, "create", "v", BTreeMap::new()).at(0);
        assert!(serde_json::to_string(&volume).unwrap().starts_with(r#"{"Type":"volume","#));
    }
}
