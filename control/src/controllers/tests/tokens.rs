//! Tokens that secrets keep, from their making to the end of their account.

use super::*;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

/// Who a token stands for.
async fn user_of(client: &Client, token: &str, audiences: &[&str]) -> Option<String> {
    let spec = json!({"token": token, "audiences": audiences});
    let review = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let status = reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
    status.authenticated.filter(|is_so| *is_so).and(status.user?.username)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_given_a_token_that_dies_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let client = plane.client();
    let accounts = create::<ServiceAccount>(&client, json!({"metadata": {"name": "robot"}})).await;
    let keeping = |name: &str, account: &str| {
        json!({"metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
            "type": "kubernetes.io/service-account-token"})
    };
    create::<Secret>(&client, keeping("one", "robot")).await;
    let secrets = create::<Secret>(&client, keeping("two", "robot")).await;
    let has_token = |secret: &Secret| secret.data.as_ref().is_some_and(|data| data.contains_key("token"));
    let mut tokens = Vec::new();
    for name in ["one", "two"] {
        let secret = until(secrets.clone(), name, has_token).await;
        let data = secret.data.as_ref().unwrap();
        assert_eq!(data["namespace"].0, b"default");
        assert_eq!(data["ca.crt"].0, plane.ca_pem().as_bytes());
        assert!(secret.annotations().contains_key("kubernetes.io/service-account.uid"));
        tokens.push(String::from_utf8(data["token"].0.clone()).unwrap());
    }
    let robot = Some("system:serviceaccount:default:robot".to_owned());
    assert_eq!(user_of(&client, &tokens[0], &[]).await, robot);
    assert_eq!(user_of(&client, &tokens[0], &["vault"]).await, None, "it is for this server");
    secrets.delete("one", &DeleteParams::default()).await.unwrap();
    assert_eq!(user_of(&client, &tokens[0], &[]).await, None);
    assert_eq!(user_of(&client, &tokens[1], &[]).await, robot);
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    gone(&secrets, "two").await;
    create::<Secret>(&client, keeping("for-nobody", "nobody")).await;
    gone(&secrets, "for-nobody").await;
    plane.shutdown().await.unwrap();
}
