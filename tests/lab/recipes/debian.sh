# Sourced by recipes: packages of a named Debian release, whatever this machine itself runs, by its own mirror.

fail() { echo "lab: $*" >&2; exit 1; }

mirror() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
		grep -v '^#' | grep -oE 'https?://[^ ]+/debian/?( |$)' | grep -v security | head -n 1 | tr -d ' ' || true
}

# apt with lists and cache of its own below $PWD/apt: debian_apt RELEASE apt-get|apt-cache ARG...
debian_apt() {
	local release=$1 program=$2 base from=$PWD/apt
	shift 2
	base=$(mirror)
	mkdir -p "$from/lists/partial" "$from/cache/archives/partial" "$from/parts"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${base:-http://deb.debian.org/debian} $release main" >"$from/$release.list"
	"$program" -qq -o Dir::Etc::sourcelist="$from/$release.list" -o Dir::Etc::sourceparts="$from/parts" \
		-o Dir::State::lists="$from/lists" -o Dir::Cache="$from/cache" -o APT::Sandbox::User=root "$@"
}

# Unpacks the newest PACKAGE of RELEASE into FOLDER.
debian_unpack() { # RELEASE PACKAGE FOLDER
	debian_apt "$1" apt-get update
	# `download` writes into the current folder.
	debian_apt "$1" apt-get download "$2" >/dev/null || fail "package $2 of Debian $1 cannot be fetched"
	mkdir -p "$3"
	dpkg-deb -x "$2"_*.deb "$3"
	rm -f "$2"_*.deb
}

# Installs the machine's own PACKAGE unless COMMAND is there.
tool() { # COMMAND PACKAGE
	PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null && return
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "$2" >/dev/null 2>&1 ||
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "$2" >/dev/null; } ||
		fail "package $2 cannot be installed"
}
