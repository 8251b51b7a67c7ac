#!/usr/bin/env bash
# Deletes a release and its tag: delete_release.sh TAG. Both are gone afterwards, whatever state they were in.
set -euo pipefail

tag=$1
if gh release view "$tag" >/dev/null 2>&1; then
  gh release delete "$tag" --yes --cleanup-tag
else
  # Deleted by hand, or by another run: the tag may still be there.
  git push origin ":refs/tags/$tag" || true
fi
echo "$tag: the release and its tag are deleted; see the steps above for what has failed"
