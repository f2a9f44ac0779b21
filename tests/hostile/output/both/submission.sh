#!/bin/sh
yes >&2 & yes
