# Runs one attempt: claims it, runs its command apart from itself, leaves the exit code.
#
# Working directory: the control directory.  $1: the container's name, for `ps`.  $2: fds of files that take processes into control groups.
# The rest: the command; it reads the file `run`.  fd 0: the lock, held while this shell lives.  1 and 4: the job's raw
# stdout and stderr.  2: this shell's own complaints.  3: gets one line, `begun` or the trouble.
groups=$2
shift 2

set -C
{ echo $$ > pid; } 2> /dev/null || exit 75
set +C

# In the foreground: an asynchronous list would hand the command SIGINT and SIGQUIT ignored.
(
    exec < run || exit 125 # before the runner hears `begun`, and deletes it
    trap '' PIPE           # the runner may be gone, the job goes on
    for fd in $groups; do
        echo 0 >&"$fd" || { echo 'its control group took no process' >&3; exit 125; }
        eval "exec $fd>&-"
    done
    [ ! -e steps ] || exec 5>> steps
    read -r me rest < /proc/self/stat
    echo "$me" >> pid || { echo 'no room for its pid file' >&3; exit 125; }
    # Of -1000 to 1000: it dies before the runner when memory runs out, and with rights that are still root's for good.
    { echo 500 > /proc/self/oom_score_adj; } 2> /dev/null
    echo begun >&3
    trap - PIPE
    exec 2>&4 3>&- 4>&-
    cd /
    exec "$@"
)
code=$?

# Over the placeholder, in place: a full disk cannot refuse it.
printf '%3d\n' "$code" 1<> exit
exit "$code"
