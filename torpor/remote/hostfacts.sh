# Behind the values of torpor.remote.hostfacts.question. Only what every Debian has; each answer is one line.
umask 077
export LC_ALL=C
say() { printf 'torpor:%s\t%s\n' "$1" "$2"; }
first() { line=; { IFS= read -r line <"$1"; } 2>/dev/null; printf %s "$line"; } # also of a file whose only line has no end

HOME=${HOME:-$(cd ~ 2>/dev/null && pwd)}
base=$HOME/.torpor/engines
say home "$HOME"
say base "$base"
say uid "$(id -u)"
say architecture "$(uname -m)"
say boot "$(first /proc/sys/kernel/random/boot_id)"

if refused=$(mkdir -p "$base" 2>&1) && refused=$( { : >"$base/.writable.$$"; } 2>&1); then
    rm -f "$base/.writable.$$"
else
    say refused "$(printf %s "${refused:-no}" | tr '\n\t' '  ')"
fi
if [ -n "$rental" ]; then
    case $state in /*) ;; *) state=$HOME/$state ;; esac
    # By a link: it is there as a whole or not at all, and who comes second changes nothing.
    [ -s "$state/rental" ] || { mkdir -p "$state" && printf %s "$rental" >"$state/rental.$$" && ln "$state/rental.$$" "$state/rental"; rm -f "$state/rental.$$"; } 2>/dev/null
    say rental "$(first "$state/rental")"
fi

for ready in "$base"/*/ready; do
    if [ -f "$ready" ]; then
        folder=${ready%/ready}
        say engine "${folder##*/}	$(first "$ready")"
    fi
done

if [ -r /proc/driver/nvidia/version ]; then
    say driver "$(first /proc/driver/nvidia/version)"
elif command -v nvidia-smi >/dev/null; then
    say driver "$(timeout 10 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null </dev/null | { read -r line; echo "$line"; })"
fi

seen=:
try() {
    [ -x "$1" ] || return 0
    # A virtual environment's leads to the one it was made from, which is taken: nothing but the standard library is used.
    real=$(readlink -f "$1") || real=$1
    case $seen in *":$real:"*) return 0 ;; esac
    seen=$seen$real:
    timeout 20 "$real" -I -S -c "$probe" "$base" "$needed" 2>/dev/null </dev/null
}
PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/opt/conda/bin:$HOME/miniconda3/bin
for name in python3.14 python3.13 python3.12 python3.11 python3.10 python3 python; do
    found=$(command -v "$name" 2>/dev/null) && try "$found"
done
for found in /usr/local/bin/python3 /usr/bin/python3 /usr/bin/python3.1? /opt/*/bin/python3 /venv/*/bin/python3 \
    "$HOME"/*conda3/bin/python3 "$HOME"/.pyenv/versions/*/bin/python3 "$HOME"/.local/share/uv/python/*/bin/python3; do
    try "$found"
done
say end here
