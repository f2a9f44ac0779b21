#!/bin/sh
wget -q -T 2 -O - http://169.254.169.254/ 2>/dev/null && exit 66
exit 0
