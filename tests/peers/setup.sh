#!/usr/bin/env bash
# Installs the programs that are not ours and that the tests judge us by, and writes FOLDER/env:
#   tests/peers/setup.sh target/peers && . target/peers/env && cargo test --locked
# Needs python3, and root on Debian for Orthanc, dcmtk, Chromium and Node; without root those that
# are missing are named and their tests skip.
set -euo pipefail
folder=$(mkdir -p "${1:?usage: setup.sh FOLDER}" && cd "$1" && pwd)

apt_packages=(orthanc orthanc-dicomweb dcmtk chromium python3-venv)
# Node.js of another source does not get on with Debian's npm.
command -v npm >/dev/null || apt_packages+=(nodejs npm)
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  missing=()
  for package in "${apt_packages[@]}"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -q
    # Tests start their own Orthanc on a port of their own.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "${missing[@]}"
  fi
fi
for program in Orthanc storescu chromium node npm; do
  command -v "$program" >/dev/null || echo "missing: $program; its tests skip" >&2
done

# venv NAME STAMP PACKAGES: made again when the list changes.
venv() {
  local name=$1 wanted="${*:2}"
  if [ "$(cat "$folder/$name/wanted" 2>/dev/null)" != "$wanted" ]; then
    python3 -m venv --clear "$folder/$name"
    "$folder/$name/bin/pip" install -q --disable-pip-version-check "${@:2}"
    echo "$wanted" >"$folder/$name/wanted"
  fi
}
venv judges pydicom==3.0.2 highdicom==0.28.0 dcmqi==1.5.7 dicom3tools==20260927 \
  nibabel==5.4.2 scipy==1.17.1 dicomweb-client==0.61.2 openapi-python-client==0.29.1
venv judges-pydicom-seg "numpy<2" "pydicom<3" pydicom-seg==0.4.1

if command -v npm >/dev/null; then
  mkdir -p "$folder/ohif"
  cd "$folder/ohif"
  [ -d node_modules/puppeteer-core ] || npm install --silent --no-audit --no-fund puppeteer-core@24.43.1
  if [ ! -f package/dist/index.html ]; then
    npm pack --silent @ohif/app@3.13.2 >/dev/null
    tar xzf ohif-app-3.13.2.tgz --exclude 'package/dist/ort*'
    rm ohif-app-3.13.2.tgz
  fi
fi

cat >"$folder/env" <<END
export SEER_JUDGES='$folder/judges'
export SEER_JUDGES_PYDICOM_SEG='$folder/judges-pydicom-seg'
export SEER_OHIF='$folder/ohif'
END
echo "now: . $folder/env"
