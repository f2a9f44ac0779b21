#!/bin/sh
echo 'echo hi' >/job/a.out; chmod 755 /job/a.out
