#!/bin/sh
cd /job/out || exit 66
: >'./...'
: >'./$(reboot)'
: >'./*'
: >./--help
: >"./$(printf 'a\nb')"
: >"./$(printf '\377\376')"
: >'./c:\\x'
exit 0
