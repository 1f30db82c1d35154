"""What is run on an SSH host, by its own sh: asking, making, ending. Each prints the facts, one a line, as `key value`.

~/.torpor/hosts/ssh-<folder>-<node>/machine    "state rental": running, ending, destroyed
~/.torpor/hosts/ssh-<folder>-<node>/state/     the engine's records

The name of the node is in it because homes may be shared by hosts that have workspaces of their own.
"""

from __future__ import annotations

import shlex

_FACTS = """\
set -u
umask 077
root={root}
node=$(uname -n | tr -cd 'A-Za-z0-9.-')
under=.torpor/hosts/ssh-{mark}-$node
folder=$HOME/$under
papers=$folder/machine
facts() {{
    echo "home $HOME"
    echo "state $under/state"
    if [ -e "$papers" ] || [ -L "$papers" ]; then echo "papers $(head -c 200 "$papers")"; fi
    if [ -L "$root" ]; then echo "kind link"
    elif [ -d "$root" ]; then echo "kind folder"
    elif [ -e "$root" ]; then echo "kind other"
    else echo "kind none"
    fi
    if [ -d "$root" ]; then
        echo "real $(cd -- "$root" && pwd -P)"
        if [ -n "$(ls -A -- "$root" | head -c 1)" ]; then echo "filled yes"; fi
    fi
}}
put() {{
    mkdir -p -- "$folder" && printf '%s\\n' "$1" >"$papers.$$" || exit 71
}}
"""

_ASK = """\
facts
"""

# Of two that make it at once one wins: a link is made once, and what it replaces can be moved away once.
_MAKE = """\
mkdir -p -- "$root" || exit 70
put "running {rental}"
if [ -n {old} ] && [ "$(head -n 1 "$papers" 2>/dev/null)" = {old} ]; then
    mv -- "$papers" "$papers.old" && rm -rf -- "$folder/state"
fi
ln -- "$papers.$$" "$papers" 2>/dev/null
rm -f -- "$papers.$$" "$papers.old"
if [ "$(head -n 1 "$papers")" = "running {rental}" ]; then
    mkdir -p -- "$folder/state" && printf %s {rental} >"$folder/state/rental" || exit 71
fi
facts
"""

# `ending` is written first and `destroyed` last: what was begun is finished by the next call.
_END = """\
case $(head -n 1 "$papers" 2>/dev/null) in
    "running {rental}")
        put "ending {rental}"
        mv -- "$papers.$$" "$papers" || exit 71
        ;;
    "ending {rental}" | "destroyed {rental}") ;;
    *) exit 72 ;;
esac
if [ "$(head -n 1 "$papers")" = "ending {rental}" ]; then
    [ ! -L "$root" ] || exit 73
    if [ -d "$root" ]; then
        cd -- "$root" && [ "$(pwd -P)" = "$root" ] || exit 73
        for attempt in 1 2 3; do
            [ "$(id -u)" = 0 ] || find . -xdev -type d ! -perm -700 -exec chmod u+rwx {{}} + 2>/dev/null
            if find . -xdev -depth -mindepth 1 -delete 2>"$papers.said"; then break; fi
        done
        cd /
        if [ -n "$(ls -A -- "$root" | head -c 1)" ]; then
            head -c 500 "$papers.said" >&2
            exit 74
        fi
    fi
    rm -rf -- "$folder/state" "$papers.said" || exit 75
    put "destroyed {rental}"
    mv -- "$papers.$$" "$papers" || exit 71
fi
facts
"""

# Its configuration names its id in clear words.
_REPOSITORY = """\
find {root} -xdev -type f -name config.json -size -2048k -exec grep -lF {id} {{}} + 2>/dev/null | head -n 1
"""

MOUNTS = "cat /proc/self/mountinfo 2>/dev/null || :"
WHY = {
    70: "the folder of its workspace can't be made",
    71: "its papers can't be written",
    72: "it is another rental by now",
    73: "its workspace is behind a link",
    74: "its workspace could not be emptied",
    75: "its records could not be removed",
}


def ask(path: str, mark: str) -> str:
    return _FACTS.format(root=shlex.quote(path), mark=mark) + _ASK


def make(path: str, mark: str, rental: str, old: str) -> str:
    """`old`: the papers that a new rental replaces; empty if there are none."""
    return _FACTS.format(root=shlex.quote(path), mark=mark) + _MAKE.format(rental=rental, old=shlex.quote(old))


def repository(path: str, id: str) -> str:
    """Prints the configuration of the repository of this id, if it lies in the folder."""
    return _REPOSITORY.format(root=shlex.quote(path), id=shlex.quote(f'"repository":"{id}"'))


def end(path: str, mark: str, rental: str) -> str:
    return _FACTS.format(root=shlex.quote(path), mark=mark) + _END.format(rental=rental)
