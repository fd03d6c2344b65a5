//! Whether a process belongs to a container: by its control group, whose path has the container's id in it.

/// Length of a container's id in hexadecimal digits.
const ID_CHARS: usize = 64;

/// Whether the process with this `/proc/<pid>/cgroup` is in the container `id`. `ours` is the same file of this process: when
/// we run in a container ourselves, its id comes first in the paths of everybody we start.
///
/// Only the outermost container counts: what a module runs in containers of its own belongs to that module, and cannot pass
/// for another by naming a group.
pub(crate) fn is_in_container(theirs: &str, ours: &str, id: &str) -> bool {
    theirs.lines().any(|line| {
        let Some((hierarchy, path)) = split(line) else { return false };
        let our_path = ours.lines().filter_map(split).find(|(our_hierarchy, _)| *our_hierarchy == hierarchy);
        let our_path = our_path.map_or("/", |(_, path)| path);
        outermost_id(below(path, our_path)) == Some(id)
    })
}

/// `number:controllers:path`
fn split(line: &str) -> Option<(&str, &str)> {
    let (hierarchy, path) = line.rsplit_once(":/")?;
    Some((hierarchy, &line[line.len() - path.len() - 1..]))
}

fn below<'a>(path: &'a str, prefix: &str) -> &'a str {
    match path.strip_prefix(prefix.trim_end_matches('/')) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        Some(_) | None => path,
    }
}

fn outermost_id(path: &str) -> Option<&str> {
    path.split('/').find_map(|component| {
        // `docker-<id>.scope`, `libpod-<id>.scope` or the id alone.
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let id = name.rsplit('-').next()?;
        (id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "12:pids:/\n0::/system.slice/skerry.service\n";

    fn is_in(theirs: &str, id: &str) -> bool {
        is_in_container(theirs, HOST, id)
    }

    #[test]
    fn both_versions_and_both_forms_of_paths_are_understood() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        for theirs in [
            format!("12:pids:/docker/{a}\n0::/docker/{a}\n"),
            format!("0::/system.slice/docker-{a}.scope\n"),
            format!("0::/machine.slice/libpod-{a}.scope/container\n"),
        ] {
            assert!(is_in(&theirs, &a), "{theirs}");
            assert!(!is_in(&theirs, &b), "{theirs}");
        }
        for theirs in ["", "0::/\n", "0::/user.slice/user-1000.slice\n", "nonsense"] {
            assert!(!is_in(theirs, &a), "{theirs}");
        }
    }

    #[test]
    fn a_container_within_a_module_is_of_that_module() {
        let (module, inner) = ("a".repeat(64), "b".repeat(64));
        let theirs = format!("0::/docker/{module}/docker/{inner}\n");
        assert!(is_in(&theirs, &module));
        assert!(!is_in(&theirs, &inner));
    }

    #[test]
    fn a_container_that_we_run_in_does_not_count() {
        let (outer, module) = ("a".repeat(64), "b".repeat(64));
        let ours = format!("0::/docker/{outer}\n");
        let theirs = format!("0::/docker/{outer}/docker/{module}\n");
        assert!(is_in_container(&theirs, &ours, &module));
        assert!(!is_in_container(&ours, &ours, &outer));
        assert!(is_in_container(&format!("0::/docker/{module}\n"), &ours, &module));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(theirs: String, ours: String) {
            is_in_container(&theirs, &ours, "x");
        }
    }
}
