"""Makes what the stand-in servers need, once: `python3 setup.py DIR [--packages]` prints the Python to run them with.

The environment is made under DIR, named after what requirements.txt says. `--packages` also installs Debian's
packages of the real servers, and of what JavaScript is built with, for root. Needs no more than Python itself."""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REQUIREMENTS = os.path.join(HERE, "requirements.txt")
# Programs, and the packages that have them.
PACKAGES = {
    "nginx": "nginx-light",
    "clickhouse-server": "clickhouse-server",
    "curl": "curl",
    "docker-registry": "docker-registry",
    "openssl": "openssl",
    "node": "nodejs",
    "npm": "npm",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("--packages", action="store_true")
    args = parser.parse_args()
    if sys.version_info < (3, 10):
        sys.exit("the stand-in servers need Python 3.10 or later, and python3 is " + sys.version.split()[0])
    os.makedirs(args.dir, exist_ok=True)
    with open(os.path.join(args.dir, "servers.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if args.packages:
            missing = [package for program, package in PACKAGES.items() if find(program) is None]
            if missing and os.geteuid() == 0:
                apt_get(missing)
            elif missing:
                # The tests that need them say so too.
                print("not installed: apt-get install " + " ".join(missing), file=sys.stderr)
        print(environment(args.dir))


def environment(directory):
    """The Python of the environment, which is made if it is not there."""
    with open(REQUIREMENTS, "rb") as file:
        key = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()[:12]
    place = os.path.join(os.path.abspath(directory), "servers-" + key)
    python = os.path.join(place, "bin", "python")
    made = os.path.join(place, "made")
    if os.path.exists(made):
        return python
    shutil.rmtree(place, ignore_errors=True)
    try:
        import ensurepip  # noqa: F401 - Debian has it in a package of its own
    except ImportError:
        apt_get(["python3-venv"])
    run([sys.executable, "-m", "venv", place])
    # Compiled when first used, and nothing that is not.
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    run(pip + ["--no-deps", "--no-compile", "--prefer-binary", "-r", REQUIREMENTS])
    open(made, "w").close()
    return python


def find(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin")


def apt_get(packages):
    """Installs Debian packages, whose services are not started."""
    by_hand = "install them with: apt-get install --no-install-recommends " + " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit("%s: not installed; %s" % (", ".join(packages), by_hand))
    policy = "/usr/sbin/policy-rc.d"
    ours = not os.path.exists(policy)
    if ours:
        with open(policy, "w") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(policy, 0o755)
    try:
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"] + packages
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        # The list of packages may be there and still be too old.
        if subprocess.run(install, env=environment, stdout=2, stderr=2).returncode != 0:
            run(["apt-get", "update", "-qq"])
            run(install, env=environment)
    finally:
        if ours:
            os.unlink(policy)


def run(command, **how):
    status = subprocess.run(command, stdout=2, **how).returncode
    if status != 0:
        sys.exit("%s: exit code %d" % (" ".join(command), status))


if __name__ == "__main__":
    main()
