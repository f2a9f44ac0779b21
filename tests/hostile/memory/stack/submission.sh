#!/bin/sh
recurse() { recurse; }
recurse
