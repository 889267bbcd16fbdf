//! A container's environment: service variables, then `envFrom`, then `env` in order, with `$(VAR)` expanded from
//! what stands before. Later definitions win. Pure: everything it needs has been fetched.

use crate::kubelet::facts::{self, Facts};
use crate::kubelet::pod;
use crate::kubelet::references::References;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod, Service};
use std::collections::BTreeMap;

/// Everything an environment may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    #[allow(missing_docs)]
    pub pod: &'a Pod,
    #[allow(missing_docs)]
    pub facts: &'a Facts,
    #[allow(missing_docs)]
    pub references: &'a References,
    /// From `service_variables`.
    pub services: &'a BTreeMap<String, String>,
}

/// The environment in the order in which it is defined; the error is what `CreateContainerConfigError` reports.
pub fn environment(sources: Sources<'_>, container: &Container) -> Result<Vec<(String, String)>, String> {
    let mut result = Ordered::default();
    for source in container.env_from.iter().flatten() {
        for (name, value) in from_source(sources.references, source)? {
            result.set(name, value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) if variable.value.as_deref().unwrap_or_default().is_empty() => {
                match value_from(sources, container, source)? {
                    Some(value) => value,
                    None => continue,
                }
            }
            _ => expand(variable.value.as_deref().unwrap_or_default(), &|name| {
                result.get(name).or_else(|| sources.services.get(name).map(String::as_str))
            }),
        };
        result.set(variable.name.clone(), value);
    }
    for (name, value) in sources.services {
        if result.get(name).is_none() {
            result.set(name.clone(), value.clone());
        }
    }
    Ok(result.0)
}

/// Definitions in order of their first appearance.
#[derive(Default)]
struct Ordered(Vec<(String, String)>);

impl Ordered {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(existing, _)| *existing == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(existing, _)| existing == name).map(|(_, value)| value.as_str())
    }
}

/// Replaces `$(NAME)` where the name is known; `$$` stands for one `$`; everything else stays as it is.
pub fn expand<'a>(text: &str, lookup: &dyn Fn(&str) -> Option<&'a str>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let reference = rest.strip_prefix('(').and_then(|inside| inside.split_once(')'));
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = reference {
            match lookup(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result + rest
}

fn from_source(references: &References, source: &EnvFromSource) -> Result<Vec<(String, String)>, String> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut pairs = Vec::new();
    if let Some(reference) = &source.config_map_ref {
        match references.config_maps.get(&reference.name) {
            Some(map) => pairs.extend(map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone()))),
            None if reference.optional == Some(true) => {}
            None => return Err(format!("configmap \"{}\" not found", reference.name)),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match references.secrets.get(&reference.name) {
            Some(secret) => pairs.extend(
                secret
                    .data
                    .iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned())),
            ),
            None if reference.optional == Some(true) => {}
            None => return Err(format!("secret \"{}\" not found", reference.name)),
        }
    }
    let prefixed = pairs.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value));
    Ok(prefixed.filter(|(name, _)| !name.is_empty() && !name.contains(['=', '\0'])).collect())
}

/// The value of one `valueFrom`; `None` for an optional reference to nothing.
fn value_from(
    sources: Sources<'_>,
    own: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    let namespace = pod::namespace(sources.pod);
    if let Some(field) = &source.field_ref {
        return facts::field(sources.pod, sources.facts, &field.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return facts::resource(sources.pod, sources.facts, own, selector).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let value = sources.references.config_key(&key.name, &key.key);
        let exists = sources.references.config_maps.contains_key(&key.name);
        return keyed(value, key.optional, || match exists {
            true => format!("couldn't find key {} in ConfigMap {namespace}/{}", key.key, key.name),
            false => format!("configmap \"{}\" not found", key.name),
        });
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = sources.references.secrets.get(&key.name);
        let value = secret.and_then(|s| s.data.as_ref()?.get(&key.key)).map(|bytes| bytes.0.clone());
        return keyed(value, key.optional, || match secret {
            Some(_) => format!("couldn't find key {} in Secret {namespace}/{}", key.key, key.name),
            None => format!("secret \"{}\" not found", key.name),
        });
    }
    Ok(Some(String::new()))
}

fn keyed(
    value: Option<Vec<u8>>,
    optional: Option<bool>,
    missing: impl FnOnce() -> String,
) -> Result<Option<String>, String> {
    match value {
        Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => Err(missing()),
    }
}

/// The variables of the services that a pod in `namespace` sees; `links` adds those of its own namespace to the
/// API server's.
pub fn service_variables(services: &[Service], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        let api_server = (home, name) == ("default", "kubernetes");
        if api_server || (links && home == namespace) {
            add_service(service, name, &mut variables);
        }
    }
    variables
}

fn add_service(service: &Service, name: &str, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first().filter(|_| !address.is_empty() && address != "None") else { return };
    let prefix = name.to_uppercase().replace('-', "_");
    let protocol = |port: &Option<String>| port.as_deref().unwrap_or("TCP").to_lowercase();
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.to_string() };
    let url = |scheme: &str, port: i32| format!("{scheme}://{bracketed}:{port}");
    variables.insert(format!("{prefix}_SERVICE_HOST"), address.to_string());
    variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    variables.insert(format!("{prefix}_PORT"), url(&protocol(&first.protocol), first.port));
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let key = format!("{prefix}_SERVICE_PORT_{}", name.to_uppercase().replace('-', "_"));
            variables.insert(key, port.port.to_string());
        }
        let scheme = protocol(&port.protocol);
        let stem = format!("{prefix}_PORT_{}_{}", port.port, scheme.to_uppercase());
        variables.insert(stem.clone(), url(&scheme, port.port));
        variables.insert(format!("{stem}_PROTO"), scheme);
        variables.insert(format!("{stem}_PORT"), port.port.to_string());
        variables.insert(format!("{stem}_ADDR"), address.to_string());
    }
}

#[cfg(test)]
mod tests;
