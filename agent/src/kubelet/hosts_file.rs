//! The `/etc/hosts` that all containers of a pod share, kept by the kubelet.

use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;

/// The file's text; `node_hosts` is the node's own file, which a host-network pod sees.
pub fn hosts_file(pod: &Pod, ips: &[String], hostname: &str, domain: &str, node_hosts: &str) -> String {
    let mut text = if pod::host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{node_hosts}")
    } else {
        managed(pod, ips, hostname, domain)
    };
    let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default();
            text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
        }
    }
    text
}

fn managed(pod: &Pod, ips: &[String], hostname: &str, domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let subdomain = pod::spec(pod).subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    for ip in ips {
        match subdomain {
            Some(subdomain) => {
                let namespace = pod::namespace(pod);
                text.push_str(&format!(
                    "{ip}\t{hostname}.{subdomain}.{namespace}.svc.{domain}\t{hostname}\n"
                ));
            }
            None => text.push_str(&format!("{ip}\t{hostname}\n")),
        }
    }
    text
}

/// What the kernel of the pod calls its machine: the host name, or with `setHostnameAsFQDN` the whole name that DNS has
/// for it, where that fits. The error is the kubelet's.
pub fn node_name(pod: &Pod, domain: &str) -> Result<String, String> {
    const LONGEST: usize = 64;
    let (spec, hostname) = (pod::spec(pod), hostname(pod));
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let Some(subdomain) = subdomain.filter(|_| spec.set_hostname_as_fqdn == Some(true)) else {
        return Ok(hostname);
    };
    let name = format!("{hostname}.{subdomain}.{}.svc.{domain}", pod::namespace(pod));
    if name.len() <= LONGEST {
        return Ok(name);
    }
    Err(format!(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({LONGEST} characters \
         is the max, {} characters requested)",
        name.len()
    ))
}

/// The pod's host name: the spec's, else the pod's own name cut to what a label may hold.
pub fn hostname(pod: &Pod) -> String {
    let wanted = pod::spec(pod).hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(pod::name(pod));
    wanted.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_machine_may_have_its_whole_name() {
        let name = |subdomain: &str, whole: bool| {
            let spec = json!({"containers": [], "hostname": "h", "subdomain": subdomain, "setHostnameAsFQDN": whole});
            let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
            node_name(&serde_json::from_value(pod).unwrap(), "cluster.local")
        };
        assert_eq!(name("s", true).unwrap(), "h.s.n.svc.cluster.local");
        assert_eq!([name("s", false), name("", true)], [Ok("h".into()), Ok("h".into())]);
        let long = name(&"s".repeat(50), true).unwrap_err();
        assert!(long.ends_with("is too long (64 characters is the max, 72 characters requested)"), "{long}");
    }
}
