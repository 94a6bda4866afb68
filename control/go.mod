module libeesp/control

go 1.26.0
