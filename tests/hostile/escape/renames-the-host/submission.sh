#!/bin/sh
hostname other 2>/dev/null && exit 66
exit 0
