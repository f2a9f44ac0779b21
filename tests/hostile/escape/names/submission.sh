#!/bin/sh
nslookup example.com 2>/dev/null && exit 66
exit 0
