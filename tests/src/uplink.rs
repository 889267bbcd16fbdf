//! A machine's link to the world, for scripts in a network namespace of their own: it has addresses of both families.

/// Shell: `up0` is ours, `up1` the other end.
pub const UPLINK: &str = r#"
set -e
ip link set lo up
ip link add up0 type veth peer name up1
ip addr add 192.0.2.1/24 dev up0
ip addr add 2001:db8::1/64 dev up0 nodad
ip link set up1 up
ip link set up0 up
"#;
