"""Deletes a release and its tag, whatever state they are in: `python3 -m deploy.ci.delete_release TAG`."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.ci.program import must, run, succeeds


def delete(arguments: Sequence[str]) -> None:
    """Deletes a release.

    Args:
        arguments: The tag.

    Raises:
        DeploymentError: It can't be deleted.
    """
    (tag,) = arguments
    if succeeds("gh", "release", "view", tag):
        must("gh", "release", "delete", tag, "--yes", "--cleanup-tag")
    else:
        # Deleted by hand, or by another run: the tag may still be there, or not.
        succeeds("git", "push", "origin", f":refs/tags/{tag}")
    print(f"{tag}: the release and its tag are deleted; see the steps above for what has failed")


if __name__ == "__main__":
    run("delete_release", delete, "TAG")
