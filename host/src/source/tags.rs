//! What a file's path says of its events.

use std::path::Path;

use crate::event::Tags;

/// `path` and `host`; for a path as the kubelet makes it also `namespace`, `pod`, `uid` and `container`; and what all
/// files have, unless it has one of these names.
pub fn tags(root: &Path, path: &Path, host: &str, of_all: &Tags) -> Tags {
    let whole = root.join(path);
    let mut tags =
        vec![("path".to_owned(), whole.to_string_lossy().into_owned()), ("host".to_owned(), host.to_owned())];
    if let Some(pod) = Pod::of(&whole) {
        let uid = (!pod.uid.is_empty()).then_some(("uid", pod.uid));
        let named = [("namespace", pod.namespace), ("pod", pod.name)].into_iter().chain(uid);
        let named = named.chain([("container", pod.container)]);
        tags.extend(named.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let own = tags.len();
    for tag in of_all {
        if !tags[..own].iter().any(|(name, _)| *name == tag.0) {
            tags.push(tag.clone());
        }
    }
    tags
}

/// A container of a pod.
#[derive(Debug, PartialEq, Eq)]
struct Pod<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Empty where the path doesn't say it.
    uid: &'a str,
    container: &'a str,
}

impl<'a> Pod<'a> {
    /// By `pods/NAMESPACE_POD_UID/CONTAINER/FILE` or `containers/POD_NAMESPACE_CONTAINER-ID.log`.
    fn of(path: &'a Path) -> Option<Pod<'a>> {
        let mut parts = path.components().rev().map(|part| part.as_os_str().to_str());
        let (file, parent) = (parts.next()??, parts.next()??);
        if parent == "containers" {
            let mut parts = file.strip_suffix(".log")?.split('_');
            let (name, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
            let (container, id) = container.rsplit_once('-')?;
            let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
            let all = is_id && parts.next().is_none();
            return Pod { namespace, name, uid: "", container }.if_named(all);
        }
        let (pod, pods) = (parts.next()??, parts.next()??);
        let mut parts = pod.split('_');
        let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
        let all = pods == "pods" && parts.next().is_none() && !uid.is_empty();
        Pod { namespace, name, uid, container: parent }.if_named(all)
    }

    fn if_named(self, is_pod: bool) -> Option<Self> {
        let is_name = |name: &str| {
            let is_known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            !name.is_empty() && name.len() <= 253 && name.bytes().all(is_known)
        };
        (is_pod && is_name(self.namespace) && is_name(self.name) && is_name(self.container)).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<String> {
        let tags = tags(Path::new("/var/log"), Path::new(path), "node-1", &Tags::new()).into_iter().skip(2);
        tags.map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn pods_are_known_by_their_paths() {
        let uid = "b2f1c9e0-8d3c-4b0a-9f5e-0a1b2c3d4e5f";
        let pod = [&format!("uid={uid}"), "container=nginx"];
        let path = format!("pods/shop_web-7d9c5-x2x_{uid}/nginx/0.log");
        assert_eq!(names(&path), ["namespace=shop", "pod=web-7d9c5-x2x", pod[0], pod[1]]);
        assert_eq!(names(&format!("{path}.20261101-101010")).len(), 4);
        let id = "0123456789abcdef".repeat(4);
        let path = format!("containers/web-0_shop_side-car-{id}.log");
        assert_eq!(names(&path), ["namespace=shop", "pod=web-0", "container=side-car"]);
    }

    #[test]
    fn other_paths_say_nothing() {
        for path in [
            "a.log",
            "pods/a_b/c/0.log",
            "pods/a_b_c_d/e/0.log",
            "pods/A_b_c/d/0.log",
            "x/a_b_c/d/0.log",
            "containers/a.log",
        ] {
            assert_eq!(names(path), [""; 0], "{path}");
        }
    }

    #[test]
    fn every_file_has_its_path_and_its_host() {
        let tags = tags(Path::new("/var/log"), Path::new("a.log"), "node-1", &Tags::new());
        let expected = [("path", "/var/log/a.log"), ("host", "node-1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(tags, expected);
    }

    #[test]
    fn what_all_files_have_does_not_hide_what_a_path_says() {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let of_all = [("namespace", "weir"), ("node", "n1"), ("path", "x")].map(pair).to_vec();
        let names = |path: &str| {
            let tags = tags(Path::new("/var/log"), Path::new(path), "node-1", &of_all).into_iter().skip(2);
            tags.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(names("a.log"), ["namespace=weir", "node=n1"]);
        let expected = ["namespace=shop", "pod=web-0", "uid=1", "container=c", "node=n1"];
        assert_eq!(names("pods/shop_web-0_1/c/0.log"), expected);
    }
}
