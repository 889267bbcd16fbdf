//! Two servers on one store: what is decided by counting is decided by one of them at a time.

use super::*;
use crate::store::{Cache, Draft, Entry, Revision, StoreError};
use async_trait::async_trait;

/// A store that says that it is shared, as etcd is.
struct Shared(Arc<dyn Store>);

#[async_trait]
impl Store for Shared {
    fn cache(&self) -> &Cache {
        self.0.cache()
    }
    fn is_shared(&self) -> bool {
        true
    }
    async fn create(&self, key: &str, draft: Draft) -> Result<Arc<Entry>, StoreError> {
        self.0.create(key, draft).await
    }
    async fn update(&self, key: &str, expected: Revision, draft: Draft) -> Result<Arc<Entry>, StoreError> {
        self.0.update(key, expected, draft).await
    }
    async fn delete(&self, key: &str, expected: Revision, last: Draft) -> Result<Arc<Entry>, StoreError> {
        self.0.delete(key, expected, last).await
    }
    fn is_open(&self) -> bool {
        self.0.is_open()
    }
    fn close(&self) {
        self.0.close();
    }
    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.0.compact(revision).await
    }
}

/// A lab, and two more servers that share its store.
fn two(lab: &Lab) -> [Arc<Server>; 2] {
    let identity = lab.pki.sign(&Subject { common_name: "server", organization: None, names: &[] }).unwrap();
    [(), ()].map(|()| {
        let store = Arc::new(Shared(lab.server.store.clone()));
        Arc::new(server_on(store, &lab.pki, &identity, None, lab.stop.subscribe()))
    })
}

/// Posts all of them at once, in turns to both servers; the codes of the answers.
fn flood(lab: &Lab, path: &str, objects: Vec<Value>) -> Vec<u16> {
    let servers = two(lab);
    let posts = objects.into_iter().enumerate().map(|(index, object)| {
        let body = Full::new(Bytes::from(object.to_string()));
        let mut request = Request::post(path).header("content-type", "application/json").body(body).unwrap();
        request.extensions_mut().insert(TransportUser(User::server()));
        tokio::spawn(servers[index % 2].clone().handle(request))
    });
    lab.runtime.block_on(async {
        let answers = futures_util::future::join_all(posts).await;
        answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect()
    })
}

#[test]
fn one_address_and_one_port_go_to_one_service() {
    let lab = lab();
    let service =
        |index: usize, spec: Value| json!({"metadata": {"name": format!("s{index}")}, "spec": spec});
    let wanted = json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]});
    let services = "/api/v1/namespaces/default/services";
    let codes = flood(&lab, services, (0..16).map(|index| service(index, wanted.clone())).collect());
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1, "{codes:?}");
    let port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30777}]});
    let codes = flood(&lab, services, (20..36).map(|index| service(index, port.clone())).collect());
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1, "{codes:?}");
}

#[test]
fn a_quota_is_never_exceeded() {
    let lab = lab();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "5"}}});
    assert_eq!(lab.post("/api/v1/namespaces/default/resourcequotas", &quota).code, 201);
    let maps = (0..24).map(|index| json!({"metadata": {"name": format!("m{index}")}})).collect();
    let codes = flood(&lab, CONFIG_MAPS, maps);
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 5, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 201 | 403)), "{codes:?}");
}
