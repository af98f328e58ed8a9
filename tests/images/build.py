#!/usr/bin/env python3
"""Makes the test images as OCI layout directories: build.py OUT

  zoo       every kind of file, odd names, times, xattrs; whiteouts, opaque directories, type
            changes, hardlinks across replaced files; one layer by Python's tarfile (blank device
            fields), the others by GNU tar; gzip -1, -6 and -9, pigz, several members
  python    Debian's python3.11 from its packages and pinned wheels from PyPI, in four layers
  *-zstd    the same tars, compressed by zstd (levels 1, 3 and 19, one of them in several frames)
  *-go      the same tars, compressed by umoci, that is, by Go's gzip
  zoo-plain, zoo-docker   not compressed; under Docker's media type

Needs root, umoci, pigz, zstd, busybox-static, apt-get, pip. Everything in one image is below
60 MB. Layouts appear under OUT when they are complete; what is there already is kept.
"""
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile

WHEELS = ["six==1.16.0", "PyYAML==6.0.2", "numpy==2.2.6"]
DEBS = [
    "libc6", "zlib1g", "libexpat1", "libbz2-1.0", "liblzma5", "libffi8", "libuuid1",
    "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal", "python3.11",
    "busybox-static", "tzdata", "media-types", "libgcc-s1", "libstdc++6",
]
CREATED = "2026-01-01T00:00:00Z"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
DOCKER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(*words, **options):
    return subprocess.run(words, check=True, **options)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write(path, text="", mode=0o644, owner=(0, 0)):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    os.chown(path, *owner)
    os.chmod(path, mode)


def tar_of(tree, *options):
    """The tar of a staged tree by GNU tar: PAX headers, xattrs, times with nanoseconds."""
    names = sorted(os.listdir(os.fsencode(tree)))
    command = ["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner",
               "--sort=name", *options, "-C", tree, "-cf", "-", "--"]
    return run(*map(os.fsencode, command), *names, stdout=subprocess.PIPE).stdout


def zoo_metadata(tree):
    """Every kind of file and attribute that a layer can carry."""
    join = lambda *parts: os.path.join(tree, *parts)
    write(join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n"
          "app:x:1000:1000:app:/home/app:/bin/sh\n")
    write(join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    write(join("root/.profile"), "# root\n", 0o600)
    os.chmod(join("root"), 0o700)
    os.makedirs(join("tmp"))
    os.chmod(join("tmp"), 0o1777)
    os.makedirs(join("home/app"))
    os.chown(join("home/app"), 1000, 1000)
    zoo = join("zoo")
    os.makedirs(zoo)
    write(join("zoo/empty"))
    write(join("zoo/small"), "small\n", 0o640, (1, 2))
    write(join("zoo/large"), b"".join(b"line %08d of a large file\n" % n for n in range(200000)))
    write(join("zoo/random"), hashlib.shake_256(b"random").digest(3_000_000))
    write(join("zoo/setuid"), "#!/bin/sh\n", 0o4755)
    write(join("zoo/setgid"), "#!/bin/sh\n", 0o2755)
    write(join("zoo/unreadable"), "secret", 0o000)
    write(join("zoo/foreign"), "far owner", 0o644, (123456, 3000000000))
    os.makedirs(join("zoo/setgid-directory"))
    os.chmod(join("zoo/setgid-directory"), 0o2775)
    os.link(join("zoo/small"), join("zoo/small-again"))
    os.link(join("zoo/small"), join("zoo/small-third"))
    os.symlink("small", join("zoo/link"))
    os.symlink("/zoo/../etc/passwd", join("zoo/absolute-link"))
    os.symlink("nowhere/" + "x" * 200, join("zoo/dangling-long-link"))
    os.symlink("loop", join("zoo/loop"))
    os.mkfifo(join("zoo/fifo"), 0o622)
    os.mknod(join("zoo/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(join("zoo/block"), stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    write(join("zoo", "n" * 255), "a name of 255 bytes")
    deep = join("zoo/deep", *["d" * 60] * 8)
    write(os.path.join(deep, "bottom"), "deep")
    with open(os.fsencode(zoo) + b"/not-utf8-\xff\xfe", "wb") as file:
        file.write(b"bytes")
    write(join("zoo/ünïcode"), "unicode")
    write(join("zoo/ space and\nnewline"), "odd")
    with open(join("zoo/sparse"), "wb") as file:
        file.truncate(5_000_000)
        for offset in (0, 1_000_000, 4_999_990):
            file.seek(offset)
            file.write(b"data %d" % offset)
    os.setxattr(join("zoo/small"), "user.note", b"a value")
    os.setxattr(join("zoo/empty"), "user.binary", bytes(range(256)))
    os.setxattr(join("zoo"), "user.directory", b"yes")
    os.setxattr(join("zoo/setuid"), "security.capability",
                b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
    times = {"empty": 1, "small": 1_700_000_000_123_456_789, "large": -1_500_000_000,
             "random": 4_102_444_800_999_999_999, "link": 981_173_106_000_000_001}
    for name, nanoseconds in times.items():
        os.utime(join("zoo", name), ns=(nanoseconds, nanoseconds), follow_symlinks=False)
    # Several identical runs far apart, so that chunks refer to earlier bytes.
    for number in range(300):
        write(join("zoo/many/%03d/file" % number), "file number %d\n" % number * (number + 1))
    for name in ("gone", "replaced-by-directory", "hard-a"):
        write(join("changes", name), name)
    os.link(join("changes/hard-a"), join("changes/hard-b"))
    os.link(join("changes/hard-a"), join("changes/hard-c"))
    for name in ("opaque/old", "opaque/both", "directory/kept", "directory-to-file/inner",
                 "gone-directory/inner", "link-to-directory-target/inner"):
        write(join("changes", name), name)
    os.symlink("link-to-directory-target", join("changes/link-to-directory"))
    os.symlink("nowhere", join("changes/link-to-file"))


def zoo_changes(tree):
    """A layer that removes and replaces what the one below has."""
    join = lambda *parts: os.path.join(tree, "changes", *parts)
    write(join(".wh.gone"))
    write(join(".wh.gone-directory"))
    write(join("opaque/.wh..wh..opq"))
    write(join("opaque/new"), "new")
    write(join("opaque/both"), "of the upper layer")
    write(join("replaced-by-directory/inner"), "now a directory")
    write(join("directory-to-file"), "now a file")
    write(join("hard-b"), "its own file now")
    write(join("link-to-directory/inner"), "no link any more")
    write(join("link-to-file"), "no link any more")
    os.makedirs(join("directory"))
    os.chmod(join("directory"), 0o711)
    os.chown(join("directory"), 7, 8)


def zoo_recreated(tree):
    """What was removed comes back as something else."""
    join = lambda *parts: os.path.join(tree, "changes", *parts)
    write(join("gone/inside"), "again, as a directory")
    os.symlink("gone", join("gone-directory"))
    write(join("opaque/.wh.new"))


def python_tar():
    """A layer as Python's tarfile writes it: fifo and directory with blank device fields, no
    entries for parent directories."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (("implicit/parent/fifo", tarfile.FIFOTYPE), ("named", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755
            info.mtime = 1_600_000_000
            tar.addfile(info)
        info = tarfile.TarInfo("./implicit/parent/" + "long/" * 40 + "file")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
        link = tarfile.TarInfo("implicit/hard")
        link.type = tarfile.LNKTYPE
        link.linkname = "implicit/parent/fifo"
        tar.addfile(link)
    data = bytearray(out.getvalue())
    # tarfile writes zeros here; the format allows blanks, and other writers leave them.
    for at in range(0, len(data), 512):
        header = data[at:at + 512]
        if header[257:262] == b"ustar" and header[156:157] == tarfile.FIFOTYPE:
            header[329:345] = b"\0" * 16
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            data[at:at + 512] = header
    return bytes(data)


def staged(work, name, fill):
    tree = os.path.join(work, "tree", name)
    os.makedirs(tree)
    fill(tree)
    return tree


def busybox(tree):
    os.makedirs(tree + "/bin")
    shutil.copy2("/bin/busybox", tree + "/bin/busybox")
    for name in ("sh", "cat", "ls", "sleep", "echo", "id", "env", "true", "false", "stty", "pwd",
                 "kill", "ps", "touch", "mkdir", "stat", "sha256sum", "hostname", "mount", "dd",
                 "head", "tail", "find", "grep", "test", "seq", "wc", "od", "chmod", "rm", "cut"):
        os.symlink("busybox", tree + "/bin/" + name)
    os.utime(tree + "/bin/busybox", (1_700_000_000, 1_700_000_000))


def zoo_layers(work):
    return [
        tar_of(staged(work, "base", busybox)),
        tar_of(staged(work, "metadata", zoo_metadata), "--sparse"),
        tar_of(staged(work, "changes", zoo_changes)),
        tar_of(staged(work, "recreated", zoo_recreated)),
        python_tar(),
    ]


def python_layers(work):
    debs = work + "/debs"
    os.makedirs(debs)
    run("apt-get", "download", "-q", *DEBS, cwd=debs, stdout=subprocess.DEVNULL)
    wheels = work + "/wheels"
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
        "--python-version", "3.11", "--platform", "manylinux2014_x86_64", "--platform",
        "manylinux_2_17_x86_64", "--platform", "any", "-d", wheels, *WHEELS)

    def packages(tree):
        for name in sorted(os.listdir(debs)):
            if not name.startswith("tzdata"):
                run("dpkg-deb", "-x", os.path.join(debs, name), tree)
        # As on an installed Debian, / has links into /usr.
        for name in ("bin", "lib", "lib64", "sbin"):
            top, below = os.path.join(tree, name), os.path.join(tree, "usr", name)
            if os.path.isdir(top) and not os.path.islink(top):
                run("cp", "-a", top + "/.", below + "/") if os.path.isdir(below) else os.rename(top, below)
                shutil.rmtree(top, ignore_errors=True)
            if os.path.isdir(below):
                os.symlink("usr/" + name, top)
        shutil.rmtree(tree + "/usr/share/doc")
        os.symlink("python3.11", tree + "/usr/bin/python3")
        os.symlink("busybox", tree + "/usr/bin/sh")
        write(tree + "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        write(tree + "/etc/group", "root:x:0:\n")
        os.makedirs(tree + "/tmp")
        os.chmod(tree + "/tmp", 0o1777)

    def zones(tree):
        for name in os.listdir(debs):
            if name.startswith("tzdata"):
                run("dpkg-deb", "-x", os.path.join(debs, name), tree)

    def packages_of_pypi(tree):
        site = tree + "/usr/lib/python3/dist-packages"
        os.makedirs(site)
        for name in sorted(os.listdir(wheels)):
            run(sys.executable, "-m", "zipfile", "-e", os.path.join(wheels, name), site)

    def application(tree):
        write(tree + "/app/app.py",
              "import numpy, yaml, six\n"
              "print('READY', numpy.__version__, yaml.safe_load('a: 1')['a'],"
              " int(numpy.arange(10).sum()), flush=True)\n")
        write(tree + "/usr/share/.wh.zoneinfo")

    stages = (("packages", packages), ("zones", zones), ("wheels", packages_of_pypi),
              ("application", application))
    return [tar_of(staged(work, name, fill)) for name, fill in stages]


def piped(command, data):
    return run(*command, input=data, stdout=subprocess.PIPE).stdout


def frames(data):
    """Several zstd frames, as parallel and seekable writers make them."""
    step = 3_000_000
    parts = [data[at:at + step] for at in range(0, len(data), step)] or [b""]
    return b"".join(piped(("zstd", "-3", "-q", "-c"), part) for part in parts)


GZIPS = (
    lambda data: piped(("gzip", "-6", "-n", "-c"), data),
    lambda data: piped(("pigz", "-9", "-p", "2", "-n", "-c"), data),
    lambda data: piped(("gzip", "-1", "-n", "-c"), data),
    lambda data: piped(("gzip", "-9", "-n", "-c"), data),
    # Two members.
    lambda data: piped(("gzip", "-n", "-c"), data[:1000]) + piped(("gzip", "-n", "-c"), data[1000:]),
)
ZSTDS = (
    lambda data: piped(("zstd", "-3", "-q", "-c"), data),
    lambda data: piped(("zstd", "-19", "-q", "-T2", "-c"), data),
    lambda data: piped(("zstd", "-1", "-q", "-c"), data),
    frames,
    lambda data: piped(("zstd", "-3", "-q", "--no-check", "-c"), data),
)


def layout(out, tars, writers, media_type, config, tag="latest"):
    """Writes an OCI layout directory of these layers."""
    part = out + ".part"
    shutil.rmtree(part, ignore_errors=True)
    blobs = part + "/blobs/sha256/"
    os.makedirs(blobs)

    def blob(data):
        name = sha256(data)
        with open(blobs + name, "wb") as file:
            file.write(data)
        return {"digest": "sha256:" + name, "size": len(data)}

    layers = []
    for number, tar in enumerate(tars):
        kind = media_type[number % len(media_type)]
        layers.append({"mediaType": kind, **blob(writers[number % len(writers)](tar))})
    document = {
        "created": CREATED, "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(tar) for tar in tars]},
        "history": [{"created": CREATED, "created_by": "layer %d" % n} for n in range(len(tars))],
    }
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   **blob(json.dumps(document).encode())},
        "layers": layers,
    }
    described = {"mediaType": manifest["mediaType"], **blob(json.dumps(manifest).encode()),
                 "platform": {"architecture": "amd64", "os": "linux"},
                 "annotations": {"org.opencontainers.image.ref.name": tag}}
    for name, content in (("index.json", {"schemaVersion": 2, "manifests": [described]}),
                          ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(os.path.join(part, name), "w") as file:
            json.dump(content, file)
    os.rename(part, out)


def by_umoci(out, tars, config):
    """The same image with Go's gzip writer: umoci compresses the layers itself."""
    part = out + ".part"
    shutil.rmtree(part, ignore_errors=True)
    quiet = {"stdout": subprocess.DEVNULL}
    run("umoci", "init", "--layout", part, **quiet)
    run("umoci", "new", "--image", part + ":latest", **quiet)
    for tar in tars:
        with open(part + ".tar", "wb") as file:
            file.write(tar)
        run("umoci", "raw", "add-layer", "--image", part + ":latest", part + ".tar", **quiet)
    os.unlink(part + ".tar")
    words = []
    for entry in config.get("Env", []):
        words += ["--config.env", entry]
    for word in config.get("Cmd", []):
        words += ["--config.cmd", word]
    run("umoci", "config", "--image", part + ":latest", *words, **quiet)
    run("umoci", "gc", "--layout", part, **quiet)
    os.rename(part, out)


IMAGES = {
    "zoo": (zoo_layers, {"Env": [PATH], "Cmd": ["/bin/sh", "-c", "echo READY zoo"]}),
    "python": (python_layers, {"Env": [PATH], "Cmd": ["python3", "-B", "/app/app.py"],
                               "WorkingDir": "/"}),
}


def main(out):
    os.makedirs(out, exist_ok=True)
    for name, (layers, config) in IMAGES.items():
        variants = {
            name: lambda path, tars: layout(path, tars, GZIPS, (GZIP,), config),
            name + "-zstd": lambda path, tars: layout(path, tars, ZSTDS, (ZSTD,), config),
            name + "-go": lambda path, tars: by_umoci(path, tars, config),
        }
        if name == "zoo":
            variants["zoo-plain"] = lambda path, tars: layout(path, tars, (bytes,), (PLAIN,), config)
            variants["zoo-docker"] = (
                lambda path, tars: layout(path, tars, GZIPS, (DOCKER_GZIP,), config))
        missing = [v for v in variants if not os.path.isdir(os.path.join(out, v))]
        if not missing:
            continue
        work = os.path.join(out, name + ".work")
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        tars = layers(work)
        for variant in missing:
            variants[variant](os.path.join(out, variant), tars)
        shutil.rmtree(work)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build.py OUT")
    main(sys.argv[1])
