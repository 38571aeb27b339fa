"""The ``casabinder`` command: reads the arguments, opens the site, calls one function, turns errors into one sentence.

Nothing heavy is imported before it is known which command runs, so that ``--help`` and a cached build answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.ci.arguments import add_arguments
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from launcher.context import Context

Command = Callable[["Context", argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for an error of the user's or the site's, 2 for usage."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        from launcher.context import open_context

        context = open_context(arguments.site, arguments.registry)
        command: Command = arguments.load()
        with contextlib.closing(context.facility.store):
            return command(context, arguments)
    except CasabinderError as error:
        if getattr(arguments, "json", False):
            print(json.dumps({"error": str(error)}))
        print(f"casabinder: {error}", file=sys.stderr)
        if arguments.debug:
            raise
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("casabinder: cancelled", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="casabinder", description="A git repository becomes a notebook server with Dask workers in the same image."
    )
    parser.add_argument("--version", action="version", version=f"casabinder {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = _common()

    building = _building()
    build = commands.add_parser("build", help="build a repository's image and push it", parents=[common, building])
    build.add_argument("--dry-run", action="store_true", help="say what would be layered, and stop there")
    build.set_defaults(load=_build)

    ci = commands.add_parser(
        "ci", help="build, push and test what a CI job has checked out", parents=[common, _building(checkout=True)]
    )
    add_arguments(ci)
    ci.set_defaults(load=_ci)

    launch = commands.add_parser(
        "launch", help="build if needed, then start a notebook server with Dask workers", parents=[common, building]
    )
    launch.add_argument("--workers", type=_count, default=2, metavar="N", help="Dask workers (default: 2)")
    launch.add_argument(
        "--pool",
        choices=("local", "htcondor"),
        help="where workers run: in the container, or as jobs (default: the site's)",
    )
    launch.add_argument(
        "--cpus", type=float, metavar="N", help="processors for server and workers (default: the site's)"
    )
    launch.add_argument("--memory", metavar="SIZE", help="memory for server and workers, as 4G (default: the site's)")
    launch.add_argument(
        "--gpus",
        type=_count,
        metavar="N",
        help="GPUs of each worker in a pool (default: the image's); 0: none for the server either",
    )
    launch.add_argument("--port", type=int, metavar="PORT", help="port on this machine (default: any free one)")
    for what in ("token", "proxy"):
        launch.add_argument(
            f"--data-{what}",
            metavar="FILE|auto|none",
            help=f"the {what} that data are read with: a file of mode 600, or found as usual (default: the site's)",
        )
    launch.add_argument("--new", action="store_true", help="start another server even if this image runs already")
    launch.add_argument("--open", action="store_true", help="open it in a browser")
    launch.set_defaults(load=_launch)

    doctor = commands.add_parser(
        "doctor", help="say whether the site's pool and registry can be used; exit status 1 if not", parents=[common]
    )
    doctor.set_defaults(load=_doctor)

    prepull = commands.add_parser(
        "prepull", help="bring an image, or that of a repository, to the pool's nodes", parents=[common, building]
    )
    prepull.add_argument("--nodes", type=_count, metavar="N", help="to at most N nodes (default: the site's, or all)")
    prepull.set_defaults(load=_prepull)

    prebuild = commands.add_parser("prebuild", help="build what a list names unless it is built", parents=[common])
    prebuild.add_argument("list", nargs="?", type=Path, metavar="LIST", help="repositories: REPO [REF] a line, or YAML")
    prebuild.add_argument("--popular", type=_count, default=0, metavar="N", help="and what was launched most here")
    prebuild.add_argument("--at-once", type=_count, default=2, metavar="N", help="builds at once (default: 2)")
    prebuild.add_argument("--rebuild", action="store_true", help="lock and build again even what was built before")
    prebuild.set_defaults(load=_prebuild)

    badge = commands.add_parser(
        "badge", help="print a launch badge as Markdown, reStructuredText and HTML", parents=[common]
    )
    badge.add_argument("repo", metavar="REPO", help="whatever the launch page understands: an address, a DOI, a link")
    badge.add_argument("--ref", default="", metavar="REF", help="branch, tag or commit (default: as in REPO, or HEAD)")
    opens = badge.add_mutually_exclusive_group()
    opens.add_argument("--file", metavar="PATH", help="a file of the repository to open")
    opens.add_argument("--lab", metavar="PATH", help="a file of the repository to open in JupyterLab")
    opens.add_argument("--url-path", metavar="PATH", help="any page of the notebook server to open")
    badge.add_argument("--service", metavar="URL", help="the launch service (default: the site's `service.url`)")
    badge.set_defaults(load=_badge)

    ps = commands.add_parser("ps", help="list the notebook servers that run here", parents=[common])
    ps.set_defaults(load=_ps)
    logs = commands.add_parser("logs", help="print a server's log", parents=[common])
    logs.add_argument("name", metavar="NAME", help="a name that `casabinder ps` lists")
    logs.add_argument("-f", "--follow", action="store_true", help="keep printing what comes")
    logs.add_argument("--tail", type=_count, metavar="N", help="only the last N lines")
    logs.set_defaults(load=_logs)
    stop = commands.add_parser("stop", help="stop servers", parents=[common])
    stop.add_argument("names", nargs="*", metavar="NAME", help="names that `casabinder ps` lists")
    stop.add_argument("--all", action="store_true", help="stop all of them")
    stop.set_defaults(load=_stop)

    serve = commands.add_parser("serve", help="run a facility: page, API, JupyterHub", parents=[_configured()])
    serve.add_argument("--port", type=_count, metavar="PORT", help="its one port (default: the site's; 0: a free one)")
    modes = serve.add_mutually_exclusive_group()
    modes.add_argument(
        "--anonymous", dest="mode", action="store_const", const="anonymous", help="everybody gets a temporary user"
    )
    modes.add_argument("--login", dest="mode", action="store_const", const="login", help="people log in")
    serve.set_defaults(load=_serve, registry=None)

    verify = commands.add_parser("verify", help="make an image again and compare the digests", parents=[common])
    verify.add_argument("image", metavar="IMAGE", help="HOST/NAME:TAG or HOST/NAME@DIGEST of an image built here")
    verify.add_argument("--key", type=Path, metavar="FILE", help="public key (PEM) that must have signed the image")
    _add_token(verify)
    verify.set_defaults(load=_inspect("verify_image"))

    inspect = commands.add_parser("inspect", help="show what an image or a base consists of", parents=[common])
    inspect.add_argument("image", metavar="IMAGE", help="HOST/NAME:TAG, HOST/NAME@DIGEST or oci:DIRECTORY:TAG")
    documents = inspect.add_mutually_exclusive_group()
    for name in ("lock", "sbom", "provenance", "log", "report"):
        documents.add_argument(f"--{name}", action="store_true", help=f"print the {name} as it is stored")
    inspect.set_defaults(load=_inspect("inspect_image"))
    diff = commands.add_parser(
        "diff", help="say what changed between two images; exit status 1 if they differ", parents=[common]
    )
    diff.add_argument("before", metavar="IMAGE")
    diff.add_argument("after", metavar="IMAGE")
    diff.set_defaults(load=_inspect("diff_images"))
    rebase = commands.add_parser("rebase", help="put images onto another base without building them", parents=[common])
    rebase.add_argument("images", nargs="*", metavar="IMAGE", help="one image; with --all repositories, if not all")
    rebase.add_argument("--base", required=True, metavar="NAME", help="a base of the catalogue, or an image reference")
    rebase.add_argument("--all", action="store_true", help="every image in use that is on another image of that base")
    rebase.add_argument("--dry-run", action="store_true", help="with --all: say what would become of each")
    rebase.add_argument("--since", default="", metavar="DAY", help="with --all: only what was built since YYYY-MM-DD")
    rebase.add_argument(
        "--repositories", default="*", metavar="GLOB", help="with --all: names below the site's prefix (default: *)"
    )
    rebase.add_argument("--at-once", type=_count, default=4, metavar="N", help="repositories at once (default: 4)")
    rebase.set_defaults(load=_rebase)

    unpack = commands.add_parser("unpack", help="unpack an image into a directory, for Apptainer", parents=[common])
    unpack.add_argument("image", metavar="IMAGE", help="HOST/NAME:TAG, HOST/NAME@DIGEST or oci:DIRECTORY:TAG")
    unpack.add_argument("directory", type=Path, metavar="DIRECTORY", help="which must not be there yet")
    unpack.set_defaults(load=_unpack)

    base = commands.add_parser("base", help="list, show, lock, build and push base images")
    bases = base.add_subparsers(dest="base_command", required=True, metavar="COMMAND")
    listing = bases.add_parser("list", help="list the catalogue", parents=[common])
    listing.set_defaults(load=_base("list_bases"))
    show = bases.add_parser("show", help="show what a base consists of", parents=[common])
    show.add_argument("name", metavar="NAME")
    show.set_defaults(load=_base("show_base"))
    lock = bases.add_parser("lock", help="resolve requirements, say what changed in the locks", parents=[common])
    lock.add_argument("names", nargs="*", metavar="NAME", help="default: all of the catalogue")
    lock.add_argument("--additions", action="store_true", help="lock the packages that site.yaml adds to them instead")
    lock.add_argument("--upgrade", action="store_true", help="take the newest of everything (default: keep what fits)")
    lock.add_argument(
        "--upgrade-package", action="append", default=[], metavar="PACKAGE", help="the newest of this one"
    )
    lock.add_argument("--dry-run", action="store_true", help="say what would change, and write nothing")
    lock.add_argument("--exit-code", action="store_true", help="exit status 1 if anything changed")
    lock.set_defaults(load=_upkeep("lock_bases"))
    status = bases.add_parser("status", help="say how old bases are, and what is newer", parents=[common])
    status.add_argument("names", nargs="*", metavar="NAME", help="default: all of the catalogue that are built")
    status.add_argument("--exit-code", action="store_true", help="exit status 1 if anything is newer, or not known")
    status.set_defaults(load=_upkeep("base_statuses"))
    making = bases.add_parser("build", help="make bases and push them to the registry", parents=[common])
    making.add_argument("names", nargs="*", metavar="NAME", help="default: the site's default base")
    making.add_argument("--refresh", action="store_true", help="take Debian's packages of today, build in any case")
    making.set_defaults(load=_base("build_bases"))
    sizing = bases.add_parser("size", help="tell what takes the room in bases", parents=[common])
    sizing.add_argument("names", nargs="*", metavar="NAME", help="default: the site's default base")
    sizing.set_defaults(load=_base_size)
    push = bases.add_parser("push", help="copy a built base to another registry", parents=[common])
    push.add_argument("name", metavar="NAME")
    push.add_argument("target", metavar="HOST/PREFIX", help="the other registry, or oci:DIRECTORY")
    push.set_defaults(load=_base("push_base"))

    _add_releases(bases, common)

    site = commands.add_parser("site", help="check the site's configuration, print its schema")
    sites = site.add_subparsers(dest="site_command", required=True, metavar="COMMAND")
    check = sites.add_parser("check", help="say whether site.yaml can be used", parents=[_configured()])
    check.set_defaults(load=_site("check_site"), registry=None)
    schema = sites.add_parser("schema", help="print the JSON schema of site.yaml", parents=[_configured()])
    schema.set_defaults(load=_site("print_schema"), registry=None)
    return parser


def _add_releases(bases: Any, common: argparse.ArgumentParser) -> None:
    releasing = bases.add_parser(
        "release", help="build and try bases, give them the tag of the day, have a channel name them", parents=[common]
    )
    releasing.add_argument("names", nargs="*", metavar="NAME", help="default: the site's default base")
    _add_channel(releasing, default="edge")
    releasing.add_argument("--refresh", action="store_true", help="take Debian's packages of today")
    releasing.add_argument(
        "--from", dest="source", default="", metavar="CHANNEL|TAG", help="build nothing: name what this names"
    )
    releasing.add_argument("--test-again", dest="again", action="store_true", help="with --from: try it once more")
    releasing.add_argument("--xrootd", default="", metavar="URL", help="a file that everybody may read, to be read")
    releasing.set_defaults(load=_release("release_bases"))
    back = bases.add_parser("rollback", help="have a channel name the release before", parents=[common])
    back.add_argument("name", metavar="NAME")
    _add_channel(back)
    back.add_argument("--to", default="", metavar="TAG", help="the release of this tag instead")
    back.set_defaults(load=_release("roll_back_base"))
    listing = bases.add_parser("releases", help="list releases, their channels and what changed", parents=[common])
    listing.add_argument("name", nargs="?", metavar="NAME", help="default: all of the catalogue")
    listing.set_defaults(load=_release("list_releases"))


def _add_channel(command: argparse.ArgumentParser, default: str | None = None) -> None:
    command.add_argument(
        "--channel",
        choices=("edge", "stable"),
        default=default,
        required=default is None,
        help=f"the channel to be moved{f' (default: {default})' if default else ''}",
    )


def _configured() -> argparse.ArgumentParser:
    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument("--site", type=Path, metavar="FILE", help="the site's configuration (default: see docs)")
    configured.add_argument("--debug", action="store_true", help="log what is done, and show where an error came from")
    return configured


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, parents=[_configured()])
    common.add_argument(
        "--registry", metavar="HOST/PREFIX", help="where images go, or oci:DIRECTORY (default: the site's)"
    )
    common.add_argument("--json", action="store_true", help="print JSON on standard output")
    return common


def _add_token(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--git-token-file",
        type=Path,
        metavar="FILE",
        help="your token for the repository's host, in a file of mode 600",
    )


def _building(*, checkout: bool = False) -> argparse.ArgumentParser:
    building = argparse.ArgumentParser(add_help=False)
    if checkout:
        building.add_argument(
            "repo", nargs="?", default=".", metavar="REPO", help="the checkout (default: here) or a URL"
        )
    else:
        building.add_argument("repo", metavar="REPO", help="a git URL, the path of a git repository, or a DOI")
    building.add_argument("--ref", default="HEAD", metavar="REF", help="branch, tag or full commit (default: HEAD)")
    building.add_argument("--subdir", default="", metavar="DIR", help="look for environment files below DIR")
    _add_token(building)
    building.add_argument("--base", metavar="NAME", help="a base of the catalogue, or an image reference")
    building.add_argument(
        "--as-of",
        default="",
        metavar="DATE",
        help="packages as the index had them on YYYY-MM-DD, or on the day of the `commit` (not for lock files)",
    )
    building.add_argument("--rebuild", action="store_true", help="lock and build again even if it was built before")
    building.add_argument("--json-logs", action="store_true", help="report progress as JSON lines on standard error")
    building.add_argument("--quiet", action="store_true", help="report no progress")
    return building


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _version() -> str:
    from importlib.metadata import version

    return version("casabinder")


def _build() -> Command:
    from launcher.build_commands import build_image

    return build_image


def _ci() -> Command:
    from launcher.ci_commands import build_in_ci

    return build_in_ci


def _launch() -> Command:
    from launcher.server_commands import launch

    return launch


def _doctor() -> Command:
    from launcher.doctor_commands import examine_site

    return examine_site


def _prepull() -> Command:
    from launcher.prepull_commands import prepull_image

    return prepull_image


def _prebuild() -> Command:
    from launcher.prebuild_commands import prebuild

    return prebuild


def _badge() -> Command:
    from launcher.badge_commands import print_badge

    return print_badge


def _unpack() -> Command:
    from launcher.unpack_commands import unpack

    return unpack


def _ps() -> Command:
    from launcher.server_commands import ps

    return ps


def _logs() -> Command:
    from launcher.server_commands import logs

    return logs


def _stop() -> Command:
    from launcher.server_commands import stop

    return stop


def _serve() -> Command:
    from launcher.serve_commands import serve_facility

    return serve_facility


def _site(name: str) -> Callable[[], Command]:
    def load() -> Command:
        from launcher import serve_commands

        return getattr(serve_commands, name)  # type: ignore[no-any-return]

    return load


def _inspect(name: str) -> Callable[[], Command]:
    def load() -> Command:
        from launcher import inspect_commands

        return getattr(inspect_commands, name)  # type: ignore[no-any-return]

    return load


def _rebase() -> Command:
    from launcher.rebase_commands import rebase

    return rebase


def _upkeep(name: str) -> Callable[[], Command]:
    def load() -> Command:
        from launcher.bases import upkeep_commands

        return getattr(upkeep_commands, name)  # type: ignore[no-any-return]

    return load


def _base(name: str) -> Callable[[], Command]:
    def load() -> Command:
        from launcher import base_commands

        return getattr(base_commands, name)  # type: ignore[no-any-return]

    return load


def _release(name: str) -> Callable[[], Command]:
    def load() -> Command:
        from launcher.bases import release_commands

        return getattr(release_commands, name)  # type: ignore[no-any-return]

    return load


def _base_size() -> Command:
    from launcher.bases.size_commands import size_bases

    return size_bases


if __name__ == "__main__":
    sys.exit(main())
