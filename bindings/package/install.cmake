# What `cmake --install` puts where. Nothing installed holds the prefix: the pkg-config and CMake files find it from
# where they lie, so `cmake --install build/release --prefix ANYWHERE` needs no new configuration.
include(CMakePackageConfigHelpers)

# lumap_package(runtime, pkg-config's name of its VM, that VM's name for people)
function(lumap_package PACKAGE_NAME PACKAGE_VM PACKAGE_VM_TITLE)
  install(TARGETS ${PACKAGE_NAME} lib${PACKAGE_NAME}-shared lib${PACKAGE_NAME}-static
          RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  set(made ${PROJECT_BINARY_DIR}/package/${PACKAGE_NAME}.pc)
  configure_file(${PROJECT_SOURCE_DIR}/bindings/package/lumap.pc.in ${made} @ONLY)
  install(FILES ${made} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

if(LUMAP_LUAJIT)
  lumap_package(lumap luajit "LuaJIT 2.1")
endif()
if(LUMAP_LUA54)
  lumap_package(lumap54 lua5.4 "PUC Lua 5.4")
endif()

install(FILES bindings/include/lumap.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(made ${PROJECT_BINARY_DIR}/package)
configure_file(bindings/package/lumap-config.cmake.in ${made}/lumap-config.cmake @ONLY)
write_basic_package_version_file(${made}/lumap-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${made}/lumap-config.cmake ${made}/lumap-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/lumap)
