//! Which endpoint stands in which slice: each stays where it is, so that a change of one pod is a change of one slice,
//! however many pods a service has.

use super::Wanted;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Endpoints per slice.
const MOST: usize = 100;

/// What a slice that is there should hold, or a new one.
type Packed = (Option<Arc<EndpointSlice>>, Wanted);

/// Distributes endpoints over the slices there are and as many new ones as it takes; with the slices that are left over.
pub(super) fn pack(
    existing: Vec<Arc<EndpointSlice>>,
    wanted: Vec<Wanted>,
) -> (Vec<Packed>, Vec<Arc<EndpointSlice>>) {
    let (mut packed, mut useless) = (Vec::new(), existing);
    for group in wanted {
        let has_ports =
            |slice: &Arc<EndpointSlice>| slice.ports.as_deref().unwrap_or_default() == group.ports;
        let (same, others) = useless.into_iter().partition(has_ports);
        useless = others;
        let (filled, left) = fill(same, group);
        packed.extend(filled);
        useless.extend(left);
    }
    for (slice, _) in packed.iter_mut().filter(|(slice, _)| slice.is_none()) {
        *slice = useless.pop();
    }
    (packed, useless)
}

/// The same for endpoints with the same ports, and slices that have these.
fn fill(slices: Vec<Arc<EndpointSlice>>, group: Wanted) -> (Vec<Packed>, Vec<Arc<EndpointSlice>>) {
    let Wanted { ports, endpoints } = group;
    let is_empty = endpoints.is_empty();
    let mut outside: BTreeMap<_, Endpoint> = endpoints.into_iter().map(|one| (key(&one), one)).collect();
    let stay = |slice: Arc<EndpointSlice>| {
        let present = slice.endpoints.iter().filter_map(|one| outside.remove(&key(one)));
        let endpoints: Vec<Endpoint> = present.take(MOST).collect();
        (slice, endpoints)
    };
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = slices.into_iter().map(stay).collect();
    let mut rest = outside.into_values();
    for (_, endpoints) in &mut kept {
        let room = MOST.saturating_sub(endpoints.len());
        endpoints.extend(rest.by_ref().take(room));
    }
    let (mut packed, mut useless): (Vec<Packed>, Vec<_>) = (Vec::new(), Vec::new());
    for (slice, endpoints) in kept {
        match endpoints.is_empty() && !(is_empty && packed.is_empty()) {
            true => useless.push(slice),
            false => packed.push((Some(slice), Wanted { ports: ports.clone(), endpoints })),
        }
    }
    loop {
        let endpoints: Vec<Endpoint> = rest.by_ref().take(MOST).collect();
        if endpoints.is_empty() && !packed.is_empty() {
            return (packed, useless);
        }
        packed.push((None, Wanted { ports: ports.clone(), endpoints }));
    }
}

/// The pod's address, and which pod it is.
fn key(endpoint: &Endpoint) -> (Option<String>, Option<String>) {
    let pod = endpoint.target_ref.as_ref().and_then(|pod| pod.uid.clone());
    (endpoint.addresses.first().cloned(), pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::discovery::v1::EndpointPort;

    fn group(port: i32, numbers: impl IntoIterator<Item = u32>) -> Wanted {
        let endpoint =
            |number| Endpoint { addresses: vec![format!("10.0.0.{number:03}")], ..Endpoint::default() };
        let ports = vec![EndpointPort { port: Some(port), ..EndpointPort::default() }];
        Wanted { ports, endpoints: numbers.into_iter().map(endpoint).collect() }
    }

    fn slice(name: &str, wanted: Wanted) -> Arc<EndpointSlice> {
        let mut slice = EndpointSlice {
            ports: Some(wanted.ports),
            endpoints: wanted.endpoints,
            ..EndpointSlice::default()
        };
        slice.metadata.name = Some(name.to_owned());
        Arc::new(slice)
    }

    /// `name:count`, with a star where the slice changes, and the names of those that go.
    fn shape(existing: Vec<Arc<EndpointSlice>>, wanted: Vec<Wanted>) -> (Vec<String>, Vec<String>) {
        let name = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap();
        let (packed, useless) = pack(existing, wanted);
        let words = |(slice, wanted): &Packed| {
            let is_same = slice.as_ref().is_some_and(|slice| slice.endpoints == wanted.endpoints);
            let name = slice.as_ref().map_or_else(|| "new".to_owned(), |slice| name(slice));
            format!("{name}:{}{}", wanted.endpoints.len(), if is_same { "" } else { "*" })
        };
        (packed.iter().map(words).collect(), useless.iter().map(|slice| name(slice)).collect())
    }

    #[test]
    fn endpoints_stay_where_they_are() {
        let two = || vec![slice("a", group(80, 0..100)), slice("b", group(80, 100..150))];
        let cases = [
            (vec![], vec![group(80, 0..250)], vec!["new:100*", "new:100*", "new:50*"], vec![]),
            (two(), vec![group(80, 0..150)], vec!["a:100", "b:50"], vec![]),
            // One that goes, one that comes, and both.
            (two(), vec![group(80, 1..150)], vec!["a:99*", "b:50"], vec![]),
            (two(), vec![group(80, 0..151)], vec!["a:100", "b:51*"], vec![]),
            (two(), vec![group(80, 1..151)], vec!["a:100*", "b:50"], vec![]),
            (two(), vec![group(80, 100..150)], vec!["b:50"], vec!["a"]),
            // The last one stays, and says that there is none.
            (two(), vec![group(80, 0..0)], vec!["a:0*"], vec!["b"]),
            (vec![], vec![group(80, 0..0)], vec!["new:0*"], vec![]),
            // Other ports take over what is left.
            (two(), vec![group(81, 0..150)], vec!["b:100*", "a:50*"], vec![]),
            (two(), vec![group(80, 0..100), group(81, 100..150)], vec!["a:100", "b:50"], vec![]),
        ];
        for (at, (existing, wanted, packed, useless)) in cases.into_iter().enumerate() {
            assert_eq!(shape(existing, wanted), (owned(&packed), owned(&useless)), "case {at}");
        }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}
