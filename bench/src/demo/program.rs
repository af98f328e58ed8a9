//! The program that the demo's image runs: Perl, which every Debian machine has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::closure::{Closure, output_of};

/// Modules of the package perl-base that the program loads, some of them with shared objects.
const MODULES: &str = "use POSIX (); use List::Util (); use Data::Dumper (); use Storable (); \
                       use File::Temp (); use Getopt::Long (); use IO::Socket (); use Socket ();";

/// Where the program lies in the image.
pub const PATH: &str = "demo/program.pl";
/// The hard link to it, and the symlink.
pub const LINKS: [&str; 2] = ["demo/hard.pl", "demo/soft.pl"];

/// The interpreter, the tools that the program calls, and all that these need.
///
/// # Errors
/// Where one of them is missing here.
pub fn needs() -> Result<Closure> {
    let mut closure = Closure::default();
    for program in ["/usr/bin/perl", "/bin/sh", "/usr/bin/sha256sum"] {
        closure.add_program(Path::new(program))?;
    }
    let list = format!(
        "{MODULES} print \"$_\\n\" for grep {{ m,^/, }} values %INC, @DynaLoader::dl_shared_objects;"
    );
    let files = output_of(Command::new("/usr/bin/perl").args(["-e", &list]))?;
    for file in files.lines().map(Path::new) {
        closure.add(file)?;
        if file.extension().is_some_and(|e| e == "so") {
            closure.add_program(file)?;
        }
    }
    Ok(closure)
}

/// The program's text: it walks a directory, hashes `samples` with another program, looks at
/// both links, and checks that `removed` is not there.
///
/// # Errors
/// Where a path cannot be written into it.
pub fn text(samples: &[PathBuf], removed: &Path) -> Result<String> {
    let mut quoted = Vec::new();
    for path in samples.iter().map(PathBuf::as_path).chain([removed]) {
        let path = path.to_str().context("a path that is not UTF-8")?;
        quoted.push(format!(
            "'/{}'",
            path.replace('\\', "\\\\").replace('\'', "\\'")
        ));
    }
    let removed = quoted.pop().unwrap_or_default();
    let samples = quoted.join(", ");
    let [hard, soft] = LINKS;
    Ok(format!(
        "#!/usr/bin/perl
use strict; use warnings; {MODULES}
my @samples = ({samples});
opendir(my $bin, '/usr/bin') or die \"/usr/bin: $!\";
my $programs = grep {{ -e \"/usr/bin/$_\" }} readdir $bin;
open(my $sums, '-|', '/usr/bin/sha256sum', '--', @samples) or die \"sha256sum: $!\";
my @sums = <$sums>;
close $sums or die 'sha256sum failed';
my ($here, $hard, $soft) = map {{ (stat)[1] }} '/{PATH}', '/{hard}', '/{soft}';
die 'the links lead elsewhere' unless $here == $hard && $here == $soft;
die 'a removed file is there' if -e {removed};
printf \"READY perl %vd, %d entries in /usr/bin, %d files hashed\\n\", $^V, $programs, scalar @sums;
print @sums;
"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_needs_hold_the_interpreter_its_linker_and_a_shared_object() {
        let paths = needs().unwrap().paths;
        let some = |part: &str| paths.iter().any(|p| p.to_string_lossy().contains(part));
        assert!(some("/bin/perl") && some("/ld") && some("POSIX.so") && some("libc.so"));
    }

    #[test]
    fn the_program_is_perl_even_with_odd_names() {
        let odd = [PathBuf::from("usr/share/it's \\ odd")];
        let text = text(&odd, Path::new("usr/share/x")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("p.pl");
        std::fs::write(&file, text).unwrap();
        output_of(Command::new("/usr/bin/perl").arg("-c").arg(&file)).unwrap();
    }
}
