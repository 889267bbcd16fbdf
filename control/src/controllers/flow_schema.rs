//! Flow schemas say in their status whether their priority level exists: one that dangles sorts no request.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// Woken by its schemas; a level that comes or goes may concern them all.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("flowschema", plane);
    let schemas = wire.keys::<FlowSchema>();
    let levels = wire.reads::<PriorityLevelConfiguration>();
    let all = schemas.clone();
    wire.woken_by::<PriorityLevelConfiguration>(move |old, new, queue| {
        if old.is_none() || new.is_none() {
            all.all().iter().for_each(|schema| queue.add(Key::of(&**schema)));
        }
    });
    let controller = FlowSchemas { client: wire.client(), schemas, levels };
    wire.run(1, controller)
}

struct FlowSchemas {
    client: Client,
    schemas: Lister<FlowSchema>,
    levels: Lister<PriorityLevelConfiguration>,
}

impl Reconcile for FlowSchemas {
    /// Writes the condition of one schema, if it changed.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(schema) = self.schemas.get(&key) else { return Ok(Next::Wait) };
        let spec = schema.spec.as_ref();
        let level = spec.map(|spec| spec.priority_level_configuration.name.as_str()).unwrap_or_default();
        let wanted = condition(level, self.levels.get(&Key::new("", level)).is_some());
        if !is_told(&schema, &wanted) {
            let api: Api<FlowSchema> = Api::all(self.client.clone());
            let patch = Patch::Merge(json!({"status": {"conditions": [wanted]}}));
            ignore_not_found(api.patch_status(&key.name, &PatchParams::default(), &patch).await)?;
        }
        Ok(Next::Wait)
    }
}

fn condition(level: &str, exists: bool) -> Value {
    let (status, reason, end) = if exists {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    let about = "This FlowSchema references the PriorityLevelConfiguration object named";
    json!({
        "type": "Dangling", "status": status, "reason": reason,
        "message": format!("{about} {level:?} {end}"),
        "lastTransitionTime": format!("{:.0}", Timestamp::now()),
    })
}

/// Whether the schema says so already, since whenever.
fn is_told(schema: &FlowSchema, wanted: &Value) -> bool {
    let conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut dangling = conditions.filter(|known| known.type_.as_deref() == Some("Dangling"));
    let same = |known: &str, field: &str| wanted[field] == known;
    dangling.any(|known| {
        same(known.status.as_deref().unwrap_or_default(), "status")
            && same(known.message.as_deref().unwrap_or_default(), "message")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_whether_its_level_exists() {
        let found = condition("high", true);
        let text =
            r#"This FlowSchema references the PriorityLevelConfiguration object named "high" and it exists"#;
        assert_eq!((&found["status"], &found["message"]), (&json!("False"), &json!(text)));
        let lost = condition("high", false);
        assert!(lost["message"].as_str().unwrap().ends_with(r#""high" but there is no such object"#));
        let object = json!({"metadata": {"name": "s"}, "status": {"conditions": [found]},
            "spec": {"priorityLevelConfiguration": {"name": "high"}}});
        let schema: FlowSchema = serde_json::from_value(object).unwrap();
        assert!(is_told(&schema, &condition("high", true)) && !is_told(&schema, &lost));
    }
}
